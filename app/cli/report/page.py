"""The page, part by part, from the answer of POST /v1/evaluate. Rates are in percent, as people read them."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from app.cli.report import plots
from app.cli.report.elements import add, ends, percent, plot, section, table, written
from app.cli.report.failures import cameras, worst
from app.cli.report.pictures import Pictures
from app.cli.report.scores import scores

Json = dict[str, Any]
_STYLE = Path(__file__).with_name("page.css")
# Should a name ever get past the escaping, it still runs nothing and asks nobody.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_HEAD = (
    "protocol", "mAP", "95 %", "rank-1", "95 %", "rank-5", "rank-10", "rank-20", "rank-50", "mINP", "queries", "gallery",
)  # fmt: skip


def document(answer: Json, pictures: Pictures) -> str:
    """The whole page."""
    data = answer["data"]
    name = str(data.get("folder") or data.get("collection") or data.get("features") or "vectors")
    root = Element("html", lang="en")
    head = add(root, "head")
    add(head, "meta", charset="utf-8")
    add(head, "meta", http_equiv="Content-Security-Policy", content=_POLICY)
    add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    add(head, "title", f"Accuracy of {name}")
    add(head, "style", _STYLE.read_text(encoding="utf-8"))
    body = add(root, "body")
    _header(body, name, answer)
    main = add(body, "main")
    _protocols(main, answer)
    _cmc(main, answer)
    scores(main, answer)
    cameras(main, answer["camera_pairs"])
    worst(main, answer["worst"], pictures)
    _rests_on(main, answer)
    return written(root)


def _header(body: Element, name: str, answer: Json) -> None:
    header, model = add(body, "header"), answer["model"]
    add(header, "h1", f"Accuracy of {name}")
    size = model.get("batch_size")
    known = [model.get("variant"), model.get("fingerprint"), f"batch size {size}" if size else None]
    made_by = ", ".join(str(what) for what in known if what)
    add(header, "p", f"Model: {model['label']}" + (f" ({made_by})" if made_by else ""))
    instance = answer["protocols"].get("instance")
    if instance and instance["rank1"] is not None:
        line = add(header, "p", class_="headline")
        add(line, "strong", f"rank-1 {percent(instance['rank1'])} %, mAP {percent(instance['mAP'])} %")
        interval = instance["interval95"] or {}
        between = f"95 % intervals {ends(interval.get('rank1'))} and {ends(interval.get('mAP'))}"
        add(line, "span", f"by the protocol instance, the one to quote; {between}, {instance['valid_queries']} queries")


def _protocols(main: Element, answer: Json) -> None:
    part = section(main, "By protocol")
    rows = []
    for name, r in answer["protocols"].items():
        interval = r["interval95"] or {"mAP": None, "rank1": None}
        shares = (percent(r[key]) for key in ("rank5", "rank10", "rank20", "rank50", "mINP"))
        figures = (percent(r["mAP"]), ends(interval["mAP"]), percent(r["rank1"]), ends(interval["rank1"]), *shares)
        rows.append((name, *figures, f"{r['valid_queries']} of {r['queries']}", str(r["gallery"])))
    caption = "Percent. Queries: those with a right row, of all; gallery: rows that they are ranked against."
    table(part, caption, _HEAD, rows).set("class", "protocols")
    _explained(part, answer)
    comparison = answer["comparison"]
    for name, same in comparison["reproduced"].items():
        add(part, "p", f"The guide's rank-1 of 96.8 % was {'' if same else 'not '}reproduced by {name}.")
    if comparison["reason"]:
        add(part, "p", f"Not compared with the guide: {comparison['reason']}.")
    if gain := answer.get("reranking"):
        (bare_map, map_), (bare_rank1, rank1) = ([percent(share) for share in gain[key]] for key in ("mAP", "rank1"))
        changes = f"mAP from {bare_map} % to {map_} %, rank-1 from {bare_rank1} % to {rank1} %"
        add(part, "p", f"Re-ranking the first 100 takes {changes} (instance, {gain['queries']} queries).")


def _explained(part: Element, answer: Json) -> None:
    """What each protocol is, and what has to be said beside its figures."""
    listed = add(part, "dl")
    for name, r in answer["protocols"].items():
        add(listed, "dt", name)
        add(listed, "dd", f"{r['what']}.")
        if r["reason"]:
            add(listed, "dd", f"No figures: {r['reason']}.")
        if orders := r["over_orders"]:
            over = f"over {orders['orders']} orders"
            both = f"rank-1 is {ends(orders['rank1'])} %, mAP {ends(orders['mAP'])} %"
            add(listed, "dd", f"Depends on the order of the rows: {over} {both}.")
        for f in r["published"]:
            add(listed, "dd", f"Published: rank-1 {percent(f['rank1'])} %, mAP {percent(f['mAP'])} % ({f['source']}).")
    for name, reason in answer["omitted"].items():
        add(listed, "dt", f"{name} (left out)")
        add(listed, "dd", f"{reason}.")


def _cmc(main: Element, answer: Json) -> None:
    part = section(main, "Found among the first k")
    curves = {name: r["cmc"] for name, r in answer["protocols"].items() if r["cmc"]}
    if not curves:
        add(part, "p", "No query has a right row, so there is no curve.")
        return
    says = "; ".join(f"{name}: {percent(c[0])} % at 1, {percent(c[-1])} % at {len(c)}" for name, c in curves.items())
    about = "CMC: the share of queries that have a right row among their first k. "
    about += "Rows of the centroid protocols are means of pictures."
    plot(part, plots.cmc(curves), f"CMC curves. {says}.", about)


def _rests_on(main: Element, answer: Json) -> None:
    data = answer["data"]
    part = section(main, "What the figures rest on")
    counts = [
        (split, *(str(data[split][key]) for key in ("used", "junk", "skipped")), str(len(data[split]["refused"])))
        for split in ("query", "gallery")
    ]
    table(part, "Crops", ("split", "used", "junk", "skipped", "refused"), counts)
    kind = f"Data set by its counts: {data['data_set']}. " if data["data_set"] else ""
    add(part, "p", f"{kind}{data['persons']} persons, {data['cameras']} cameras. Order of the rows: {data['order']}.")
    agreement = answer["index_agreement"]
    if agreement["share"] is not None:
        found = f"The live index finds {percent(agreement['share'])} % of the exact first {agreement['k']}"
        add(part, "p", f"{found}, over {agreement['queries']} queries.")
    times = ", ".join(f"{name} {ms / 1000:.2f} s" for name, ms in answer["timings_ms"].items())
    add(part, "p", f"Time: {times}.")
    for split in ("query", "gallery"):
        for sentence in data[split]["refused"]:
            add(part, "p", f"Refused ({split}): {sentence}")

"""What is derived lives beside the truth: codes come, go to files, come back, and are made anew where they do not fit."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.index_files import FOLDER, IndexFiles
from app.adapters.local_gallery.keeper import Keeper
from app.adapters.local_gallery.plan import IndexPlan
from app.adapters.local_gallery.segment import Entries, Segment
from app.adapters.local_gallery.view import View
from app.adapters.memory import MemoryStore
from app.core.records import Collection, Filter, Item
from app.errors import StorageFailed, UnknownCollection
from app.ports import Floats

DIM = 64
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LOBBY = Collection("lobby", "print-1", DIM, keep_crops=False, created_at=NOON)
ALL = Filter()
PLAN = IndexPlan(flat=40, tail=10, shortlist=20, narrow=5)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def opened(directory: Path) -> Iterator[Callable[[], LocalGallery]]:
    """Opens the gallery, after closing it where it is open."""
    galleries: list[LocalGallery] = []

    def open_it() -> LocalGallery:
        for gallery in galleries:
            gallery.close()
        galleries[:] = [LocalGallery(directory, plan=PLAN)]
        galleries[0].put_collection(LOBBY)
        return galleries[0]

    yield open_it
    for gallery in galleries:
        gallery.close()


def items(start: int, stop: int) -> list[Item]:
    return [Item(f"i{n:04}", f"sha-{n}", f"p{n // 4}", f"{n % 3}") for n in range(start, stop)]


def vectors(start: int, stop: int) -> Floats:
    """Four crops of each person, with a cosine of about 0.8."""
    rows = [
        np.random.default_rng(n // 4).standard_normal(DIM)
        + 0.5 * np.random.default_rng(10_000 + n).standard_normal(DIM)
        for n in range(start, stop)
    ]
    return np.array(rows, dtype=np.float32).reshape(stop - start, DIM)


def queries(start: int, stop: int) -> Floats:
    raw = vectors(start, stop)
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


def add(gallery: LocalGallery, start: int, stop: int) -> None:
    gallery.upsert("lobby", items(start, stop), vectors(start, stop))


def wait_until(fulfilled: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if fulfilled():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen within ten seconds")


def coded(gallery: LocalGallery) -> int:
    return gallery.index("lobby").coded


def first(gallery: LocalGallery, start: int, stop: int) -> list[str]:
    """The nearest item to each of these crops."""
    return [matches[0].item.id for matches in gallery.search("lobby", queries(start, stop), 1, ALL)]


def names(start: int, stop: int) -> list[str]:
    return [item.id for item in items(start, stop)]


def files(directory: Path) -> list[Path]:
    return sorted((directory / FOLDER).glob("*"))


def test_a_growing_collection_gets_codes_and_answers_all_the_while(opened: Callable[[], LocalGallery]) -> None:
    gallery = opened()
    add(gallery, 0, 40)
    assert gallery.index("lobby").kind == "exact"
    add(gallery, 40, 80)
    assert first(gallery, 0, 80) == names(0, 80)  # whether or not the codes are there
    wait_until(lambda: coded(gallery) == 80)
    facts = gallery.index("lobby")
    assert (facts.kind, facts.items) == ("codes", 80)
    add(gallery, 80, 85)
    assert first(gallery, 0, 85) == names(0, 85)
    assert coded(gallery) == 80  # five may wait
    add(gallery, 85, 200)
    wait_until(lambda: coded(gallery) == 200)
    assert first(gallery, 0, 200) == names(0, 200)


def test_a_start_takes_codes_from_the_files(opened: Callable[[], LocalGallery], directory: Path) -> None:
    gallery = opened()
    add(gallery, 0, 100)
    wait_until(lambda: coded(gallery) == 100)
    gallery = opened()
    (path,) = files(directory)
    written = path.stat().st_mtime_ns
    assert first(gallery, 0, 100) == names(0, 100)
    assert coded(gallery) == 100
    wait_until(lambda: not gallery.index("lobby").pending)
    assert files(directory) == [path]
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_codes_are_made_anew_where_a_file_is_gone_or_cut(
    opened: Callable[[], LocalGallery], directory: Path, damage: Callable[[Path], None]
) -> None:
    gallery = opened()
    add(gallery, 0, 100)
    wait_until(lambda: coded(gallery) == 100)
    gallery.close()
    (path,) = files(directory)
    damage(path)
    gallery = opened()
    assert coded(gallery) == 100
    assert first(gallery, 0, 100) == names(0, 100)


def test_a_file_of_an_older_state_serves_for_the_rows_that_have_not_changed(
    opened: Callable[[], LocalGallery], directory: Path
) -> None:
    gallery = opened()
    add(gallery, 0, 100)
    wait_until(lambda: coded(gallery) == 100)
    gallery.close()
    (path,) = files(directory)
    old = path.read_bytes()
    gallery = opened()
    gallery.upsert("lobby", [Item("i0003", "new")], -vectors(3, 4))  # replaced
    gallery.delete("lobby", Filter(ids=frozenset(names(50, 60))))
    gallery.upsert("lobby", items(50, 52), vectors(52, 54))  # the same ids again, with other vectors
    gallery.close()
    for newer in files(directory):
        newer.unlink()
    path.write_bytes(old)  # as after a kill before the newer files were written
    gallery = opened()
    assert gallery.count("lobby") == 92
    assert coded(gallery) == 89  # of the file all but the replaced and the deleted ones
    assert first(gallery, 52, 54) == names(50, 52)
    (matches,) = gallery.search("lobby", -queries(3, 4), 1, ALL)
    assert matches[0].item.id == "i0003"
    assert matches[0].score == pytest.approx(1, abs=1e-6)
    everybody = {match.item.id for match in gallery.search("lobby", queries(0, 1), 1000, ALL)[0]}
    assert everybody == set(names(0, 52) + names(60, 100))


def test_what_is_removed_is_gone_from_the_next_search_and_soon_from_the_files(
    opened: Callable[[], LocalGallery], directory: Path
) -> None:
    gallery = opened()
    add(gallery, 0, 100)
    wait_until(lambda: coded(gallery) == 100 and not gallery.index("lobby").pending)
    (before,) = files(directory)
    gallery.delete("lobby", Filter(persons=frozenset({"p7"})))
    assert not set(first(gallery, 28, 32)) & set(names(28, 32))
    wait_until(lambda: not before.exists() and not gallery.index("lobby").pending)
    (after,) = files(directory)
    (stored,) = IndexFiles(directory).read(int(after.name.partition("-")[0]), DIM)
    assert len(stored.seqs) == 96


def test_an_erase_returns_when_files_and_memory_have_no_trace(
    opened: Callable[[], LocalGallery], directory: Path
) -> None:
    gallery = opened()
    add(gallery, 0, 105)
    wait_until(lambda: coded(gallery) >= 90)
    gallery.erase("lobby", Filter(persons=frozenset({"p7", "p25"})))
    stored = [stored for path in files(directory) for stored in IndexFiles(directory).read(_id(path), DIM)]
    seqs = {seq for one in stored for seq in one.seqs.tolist()}
    assert not seqs & {*range(29, 33), *range(101, 105)}  # their places in the order added
    assert len(seqs) == gallery.index("lobby").coded


def test_a_deleted_collection_leaves_no_files(opened: Callable[[], LocalGallery], directory: Path) -> None:
    gallery = opened()
    add(gallery, 0, 100)
    wait_until(lambda: bool(files(directory)))
    gallery.delete_collection("lobby")
    assert files(directory) == []
    add(opened(), 0, 5)
    assert first(opened(), 0, 5) == names(0, 5)


def test_a_relabelled_person_is_found_by_its_new_name_also_among_codes(
    opened: Callable[[], LocalGallery],
) -> None:
    gallery = opened()
    add(gallery, 0, 100)
    wait_until(lambda: coded(gallery) == 100)
    gallery.move("lobby", Filter(persons=frozenset({"p7"})), "Anna")
    for _ in range(2):
        (person,) = gallery.search_persons("lobby", queries(28, 29), 1, ALL)
        assert (person.person_id, person.items) == ("Anna", 4)
        (matches,) = gallery.search("lobby", queries(28, 29), 10, Filter(persons=frozenset({"Anna"})))
        assert {match.item.id for match in matches} == set(names(28, 32))
        gallery = opened()


def test_a_thousand_matches_are_a_thousand_and_all_of_fewer(opened: Callable[[], LocalGallery]) -> None:
    gallery = opened()
    add(gallery, 0, 1200)
    wait_until(lambda: coded(gallery) >= 1190)
    (many,) = gallery.search("lobby", queries(0, 1), 1000, ALL)
    assert len({match.item.id for match in many}) == 1000
    camera = Filter(cameras=frozenset({"1"}), exclude=frozenset({"i0001"}))
    (some,) = gallery.search("lobby", queries(0, 1), 1000, camera)
    assert len(some) == 399
    persons = gallery.search_persons("lobby", queries(0, 1), 1000, ALL)
    assert len(persons) == 300


def test_exact_answers_of_a_coded_collection_are_those_of_the_reference(
    opened: Callable[[], LocalGallery],
) -> None:
    gallery, reference = opened(), MemoryStore()
    reference.put_collection(LOBBY)
    add(gallery, 0, 300)
    reference.upsert("lobby", items(0, 300), vectors(0, 300))
    wait_until(lambda: coded(gallery) == 300)
    asked = queries(900, 903)
    for where in (ALL, Filter(not_camera="1"), Filter(persons=frozenset({"p3", "p50"}))):
        answers = gallery.search("lobby", asked, 30, where, exact=True), reference.search("lobby", asked, 30, where)
        for ours, theirs in zip(*answers, strict=True):
            assert [match.item for match in ours] == [match.item for match in theirs]
            assert [match.score for match in ours] == pytest.approx([match.score for match in theirs])
        found = gallery.search_persons("lobby", asked, 30, where, exact=True)
        expected = reference.search_persons("lobby", asked, 30, where)
        assert [(p.person_id, p.items, p.best.item) for p in found] == [
            (p.person_id, p.items, p.best.item) for p in expected
        ]


def test_codes_miss_few_of_the_best_and_scores_are_exact(opened: Callable[[], LocalGallery]) -> None:
    gallery = opened()
    add(gallery, 0, 1000)
    wait_until(lambda: coded(gallery) >= 990)
    asked = queries(400, 460)
    for where, least in ((ALL, 0.97), (Filter(not_camera="1"), 0.97)):
        shared, scores = 0, dict[str, float]()
        answers = gallery.search("lobby", asked, 10, where), gallery.search("lobby", asked, 10, where, exact=True)
        for ours, true in zip(*answers, strict=True):
            scores = {match.item.id: match.score for match in true}
            shared += sum(match.item.id in scores for match in ours)
            assert all(match.score == scores[match.item.id] for match in ours if match.item.id in scores)
        assert shared / 600 >= least


def test_searches_of_a_coded_collection_meet_writes_and_stay_whole(opened: Callable[[], LocalGallery]) -> None:
    gallery = opened()
    add(gallery, 0, 60)
    ended, failures = threading.Event(), list[str]()

    def ask() -> None:
        while not ended.is_set():
            matches, units = gallery.shortlist("lobby", queries(0, 1), 8, ALL)
            if matches[0].item.id != "i0000" or len(matches) != 8:
                failures.append(str([match.item.id for match in matches]))
            scores = units.astype(np.float64) @ queries(0, 1)[0].astype(np.float64)
            if not np.allclose(scores, [match.score for match in matches], atol=1e-6):
                failures.append("items and vectors are of two moments")

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    for start in range(60, 400, 17):
        add(gallery, start, start + 17)
        gallery.delete("lobby", Filter(ids=frozenset(names(start, start + 5))))
    ended.set()
    for thread in asking:
        thread.join()
    assert failures == []


class Published:
    """Views as a gallery would hold them, without a database."""

    def __init__(self, view: View) -> None:
        self.views = {view.collection.name: view}

    def of(self, name: str) -> View:
        try:
            return self.views[name]
        except KeyError as error:
            raise UnknownCollection(name) from error

    def amend(self, name: str, change: Callable[[View], View | None]) -> bool:
        changed = change(self.views[name]) if name in self.views else None
        if changed is not None:
            self.views[name] = changed
        return changed is not None


class Paused(IndexFiles):
    """Stops before a file is written, until it may go on."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.reached, self.may_go = threading.Event(), threading.Event()

    def write(self, collection_id: int, segment: Segment) -> Path:
        self.reached.set()
        assert self.may_go.wait(10)
        return super().write(collection_id, segment)


def view(count: int) -> View:
    seqs = range(1, count + 1)
    return View(LOBBY, 1, 1).with_entries(
        Entries.of(seqs, 1, items(0, count), queries(0, count), np.ones(count, dtype=np.float32))
    )


def test_what_was_removed_while_codes_were_made_stays_removed(tmp_path: Path) -> None:
    published = Published(view(100))
    removed = np.arange(1, 31)

    class Meanwhile(Published):
        """A write comes in after the vectors were looked at, and before the codes are published."""

        def amend(self, name: str, change: Callable[[View], View | None]) -> bool:
            if change is not View.closed:
                published.views[name] = published.views[name].without(removed).relabelled(np.array([40]), "Anna")
            return published.amend(name, change)

    keeper = Keeper(IndexFiles(tmp_path), PLAN, published.of, Meanwhile(published.of("lobby")).amend, quiet_s=60)
    keeper.changed("lobby")
    wait_until(lambda: published.of("lobby").segments[0].coded)
    keeper.close()
    now = published.of("lobby")
    assert now.count == 70
    assert [segment.persons_of(segment.rows(np.array([40]))) for segment in now.segments if segment.count] == [{"Anna"}]


def test_a_write_goes_on_while_a_file_is_written_and_an_erase_waits_for_it(tmp_path: Path) -> None:
    published, paused = Published(view(100)), Paused(tmp_path)
    keeper = Keeper(paused, PLAN, published.of, published.amend, quiet_s=0)
    keeper.changed("lobby")
    assert paused.reached.wait(10)
    assert published.of("lobby").segments[0].coded  # published before the file is there
    published.views["lobby"] = published.of("lobby").without(np.arange(1, 5))
    erasing = threading.Thread(target=keeper.purge, args=["lobby"])
    erasing.start()
    paused.may_go.set()
    erasing.join(10)
    (stored,) = IndexFiles(tmp_path).read(1, DIM)
    assert stored.seqs.tolist() == list(range(5, 101))
    keeper.close()


def test_files_are_written_though_writes_never_stop(tmp_path: Path) -> None:
    published = Published(view(100))
    keeper = Keeper(IndexFiles(tmp_path), PLAN, published.of, published.amend, quiet_s=60, latest_s=0)
    keeper.changed("lobby")
    wait_until(lambda: published.of("lobby").segments[0].coded)

    def written() -> bool:
        keeper.changed("lobby")
        return bool(files(tmp_path))

    wait_until(written)
    keeper.close()


def test_a_file_that_cannot_be_written_fails_an_erase_and_nothing_else(tmp_path: Path) -> None:
    class Full(IndexFiles):
        def write(self, collection_id: int, segment: Segment) -> Path:
            raise OSError(28, "No space left on device")

    published = Published(view(100))
    keeper = Keeper(Full(tmp_path), PLAN, published.of, published.amend, quiet_s=0)
    keeper.changed("lobby")
    wait_until(lambda: published.of("lobby").segments[0].coded)
    with pytest.raises(StorageFailed, match="No space left on device"):
        keeper.purge("lobby")
    keeper.changed("nowhere")  # a collection that was deleted
    wait_until(lambda: not keeper.pending("nowhere"))
    keeper.close()


def test_closing_breaks_off_the_making_of_codes(tmp_path: Path) -> None:
    published = Published(view(100))
    closing = threading.Event()

    class Slow(Published):
        def amend(self, name: str, change: Callable[[View], View | None]) -> bool:
            assert closing.wait(10)
            return published.amend(name, change)

    keeper = Keeper(IndexFiles(tmp_path), PLAN, published.of, Slow(published.of("lobby")).amend)
    keeper.changed("lobby")
    ending = threading.Thread(target=keeper.close)
    ending.start()
    wait_until(lambda: keeper._closing)
    closing.set()
    ending.join(10)
    assert not ending.is_alive()
    assert not any(segment.coded for segment in published.of("lobby").segments)


def _id(path: Path) -> int:
    return int(path.name.partition("-")[0])

"""Stand-ins for what an Atlas host has and this project's tests have not: `atc`, `npu-smi` and `aclruntime`.

    environment = standins.environment(tmp_path, atc={"mode": "no-file"})
    subprocess.run(["atc", "--framework=5", ...], env=environment)

`bin/` goes first on PATH, `site/` on PYTHONPATH. Each is steered by one variable that holds a JSON object: STANDIN_ATC
(atc.py), STANDIN_NPU_SMI (npu_smi.py), STANDIN_ACL (acl/switches.py). A fault may name a `marker`, a file: it happens
once, and then not again in a process started later. The two programs run under any Python from 3.10 on, with nothing
installed, since the product gives `atc` an environment without our own; `aclruntime` needs numpy and ONNX Runtime.

What they prove: that our code says what the manuals and the public source of the binding ask for, in the order that they
ask for, and does what we mean it to do when the answer is one of the known errors. Refusals are as strict as anything
known, or stricter.

What they cannot prove: numbers and speed on an NPU; that an OM loads with a given driver and CANN; AIPP's rounding and
layout; true behaviour of threads, exits and forks; use of memory; whether copies stall other chips; anything about
releases of aclruntime after June 2024. Whatever was run on them is "verified with a stand-in, not on an NPU".
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
BIN, SITE = HERE / "bin", HERE / "site"
CANN_VERSION = "8.1.RC1"


def environment(
    folder: Path | None = None,
    *,
    acl: Mapping[str, Any] | None = None,
    atc: Mapping[str, Any] | None = None,
    npu_smi: Mapping[str, Any] | None = None,
    base: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Variables for a process on a pretended Atlas host after `set_env.sh`.

    folder: where to lay out a pretended toolkit (version files only); without one the variables name the usual place,
    which is not there. base: what to start from, else this process's own variables.
    """
    variables = dict(os.environ if base is None else base)
    toolkit = Path("/usr/local/Ascend/ascend-toolkit/latest")
    if folder is not None:
        toolkit = lay_out_toolkit(folder, str((atc or {}).get("cann_version", CANN_VERSION)))
    variables["PATH"] = f"{BIN}:{variables.get('PATH', os.defpath)}"
    variables["PYTHONPATH"] = ":".join(filter(None, [str(SITE), variables.get("PYTHONPATH", "")]))
    variables["LD_LIBRARY_PATH"] = f"{toolkit}/lib64"
    variables |= {"ASCEND_TOOLKIT_HOME": str(toolkit), "ASCEND_OPP_PATH": f"{toolkit}/opp"}
    for name, switches in (("STANDIN_ACL", acl), ("STANDIN_ATC", atc), ("STANDIN_NPU_SMI", npu_smi)):
        if switches is not None:
            variables[name] = json.dumps(dict(switches))
    return variables


def lay_out_toolkit(folder: Path, cann_version: str) -> Path:
    """The two files that tell a toolkit's version, as CANN 8 has them (public logs show the first)."""
    toolkit = folder / "ascend-toolkit" / "latest"
    for part in ("opp", "lib64", "x86_64-linux", "aarch64-linux"):
        (toolkit / part).mkdir(parents=True, exist_ok=True)
    parts = ("runtime", "compiler", "opp", "toolkit")
    lines = [
        f"{part}_{state}_version=[7.7.0.1.238:{cann_version}]" for state in ("running", "installed") for part in parts
    ]
    (toolkit / "version.cfg").write_text("# version: 1.0\n" + "\n".join(lines) + "\n", encoding="utf-8")
    for machine in ("x86_64", "aarch64"):
        facts = f"package_name=Ascend-cann-toolkit\nversion={cann_version}\narch={machine}\nos=linux\n"
        (toolkit / f"{machine}-linux" / "ascend_toolkit_install.info").write_text(facts, encoding="utf-8")
    return toolkit

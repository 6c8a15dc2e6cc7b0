"""Every number that the runtime is known to answer with becomes a sentence that says what to do."""

import re

import pytest

from app.adapters.ascend.codes import CODES, code_of, explain, failure, with_causes
from app.errors import BadDevice, DeviceLost, ReidError

# Huawei's aclError table as far as it concerns loading and running, and aclruntime's own small numbers.
LISTED = {
    507033, 507899, 107002, 107001, 107003, 107004, 100001, 100002, 100037, 100039, 100012, 100013, 100016, 145002, 545001,
    145011, 145012, 145013, 148049, 200000, 207001, 207018, 245000, 245002, 207004, 207006, 207008, 207010, 507010, 507901,
    507008, 500002, 507011, 507014, 507015, 507017, 507018, 507046, 507053, -1, 1, 2, 26, 1004, 3011,
}  # fmt: skip
REMEDIES = (
    "npu-smi info", "build it again", "set_env.sh", "REID_BATCH_SIZES", "report it", "LD_LIBRARY_PATH", "HwHiAiUser",
    "/dev/davinci", "printed says why", "release notes",
)  # fmt: skip


def test_every_listed_number_has_a_sentence_and_no_other() -> None:
    assert set(CODES) == LISTED


@pytest.mark.parametrize("code", sorted(LISTED))
def test_a_sentence_names_the_number_and_a_remedy(code: int) -> None:
    sentence = explain(code)
    assert sentence.startswith(f"[{code}] ")
    assert any(remedy in sentence for remedy in REMEDIES), sentence


@pytest.mark.parametrize("code", [100001, 107001, 207004, 507033])
def test_where_there_may_be_no_npu_the_way_to_the_cpu_is_told(code: int) -> None:
    assert "to run on the CPU instead, set REID_VARIANT=onnx-fp32" in explain(code)


@pytest.mark.parametrize(("code", "words"), [(199999, "wrong use"), (299999, "used up"), (599999, "fault inside")])
def test_a_number_that_is_not_listed_is_told_by_its_class(code: int, words: str) -> None:
    assert words in explain(code)


@pytest.mark.parametrize("code", sorted(LISTED))
def test_only_wrong_use_and_an_om_that_does_not_fit_are_not_tried_again(code: int) -> None:
    expected = BadDevice if code == 1 or 100_000 <= code < 200_000 else DeviceLost
    assert type(failure(code, "loading")) is expected


def test_the_number_is_read_from_the_librarys_own_words() -> None:
    assert code_of(RuntimeError("[507033][Error code unknown] ")) == 507033
    assert code_of(RuntimeError("[-1][ACL: general failure] ")) == -1
    assert code_of(RuntimeError("something else")) is None


def test_an_error_without_a_number_is_an_error_all_the_same() -> None:
    assert isinstance(failure(None, "model_bs4.om"), DeviceLost)


def test_the_cause_that_was_only_printed_is_told() -> None:
    printed = ["[ERROR] execute failed, ret = 507015", "EZ9999: Inner Error!", "retcode 507015, pid 4507012345"]
    error = with_causes(DeviceLost("model_bs4.om: [-1] the library refused"), printed)
    assert isinstance(error, DeviceLost)
    assert len(re.findall("507015", str(error))) == 1
    assert "an AI core raised an exception" in str(error)


def test_a_wrong_set_up_that_was_want_of_memory_is_tried_again() -> None:
    error: ReidError = BadDevice("model_bs64.om: [1] the OM is missing, damaged or foreign")
    assert type(with_causes(error, ["malloc failed, runtime result = 207001"])) is DeviceLost
    assert type(with_causes(error, ["ret = 145002"])) is BadDevice
    assert with_causes(error, ["nothing of note 123456"]) is error

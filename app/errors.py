"""Every refusal the service can give, as one tree. Each class carries its HTTP status, a stable code, and a sentence.

ReidError
|-- BadInput 422              the caller sent something that cannot be used
|   |-- BadImage              the bytes are not a crop we can embed
|   |-- BadArchive            a stream of crops that cannot be read on
|   `-- BadField              one named field is wrong
|-- BadRequest 400            the request itself cannot be read
|-- TooSlow 408               the client sent nothing for too long
|-- TooLarge 413              more bytes or crops than allowed
|-- UnsupportedMedia 415      a body of a kind this route does not take
|-- Forbidden 403             a folder outside the allowed roots
|-- NotFound 404
|   |-- UnknownCollection
|   |-- UnknownItem
|   |-- UnknownPerson
|   |-- UnknownSnapshot
|   `-- UnknownJob
|-- Conflict 409
|   |-- TooFewLabels          to say what a score means
|   |-- PersonExists          a new name is somebody's already
|   |-- CollectionExists      what is restored needs a name of its own
|   |-- NothingToUndo         no merge was made, or it was undone
|   |-- FingerprintMismatch   vectors of two models must not meet
|   `-- ForeignVectors        vectors were brought that another model made
|-- Overloaded 429            more waits than the queue may hold
|-- Unavailable 503
|   |-- DeadlinePassed 504    the time that the request had is over
|   |-- NotReady              still warming up, or shutting down
|   |-- Interrupted           the server stopped before a job was done
|   |-- DeviceFailed          the model could not run a batch
|   |   `-- DeviceLost        and what runs it has to be opened anew
|   |-- StorageFailed         the disk is full, the database locked or broken
|   `-- AuditBroken           a line of the audit was changed or is gone
`-- SetupError 500            seen at start or on the command line, never by a client
    |-- BadModelDirectory
    |-- BadCheckpoint
    |-- VerificationFailed
    |-- CompileFailed
    |-- BadDevice             a device that no waiting will bring
    |-- DataDirectoryBusy
    |-- BadSettings
    |-- ServerUnreachable
    `-- ServerRefused         what a server answered to our own client
"""

from typing import ClassVar


class ReidError(Exception):
    """Base of all refusals; `str(error)` is the sentence shown to the caller."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"


def relayed(code: str, sentence: str) -> ReidError:
    """The refusal of this code with a sentence that was written earlier, in a job; "internal" where no class has the code."""
    kinds = [ReidError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    kind = next((kind for kind in kinds if kind.code == code), ReidError)
    error = kind.__new__(kind)  # the constructors make their own sentences
    error.args = (sentence,)
    if isinstance(error, BadField):
        error.field = sentence.partition(":")[0]
    if isinstance(error, Overloaded):
        error.retry_after_s = 1
    return error


class BadInput(ReidError):
    """What was sent can be read but not used."""

    status, code = 422, "bad_input"


class BadImage(BadInput):
    """The bytes are not an image we can embed."""

    code = "bad_image"


class BadArchive(BadInput):
    """A stream of crops is cut short or broken; what came before that place was taken."""

    code = "bad_archive"


class BadField(BadInput):
    """One field is wrong; `field` names it."""

    code = "bad_field"

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"{field}: {sentence}")
        self.field = field


class BadRequest(ReidError):
    """The request cannot be read, for example because its body is not JSON."""

    status, code = 400, "bad_request"


class TooSlow(ReidError):
    """The client began a request and then sent nothing for too long."""

    status, code = 408, "too_slow"


class TooLarge(ReidError):
    """More bytes or more crops than one request may hold."""

    status, code = 413, "too_large"


class UnsupportedMedia(ReidError):
    """The body is of a kind that the route does not take."""

    status, code = 415, "unsupported_media"


class Forbidden(ReidError):
    """A path that the operator has not opened."""

    status, code = 403, "forbidden"


class NotFound(ReidError):
    """What was named does not exist."""

    status, code = 404, "not_found"


class UnknownCollection(NotFound):
    """No collection has this name."""

    code = "unknown_collection"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no collection {name!r}")


class UnknownItem(NotFound):
    """The collection has no item with this id."""

    code = "unknown_item"

    def __init__(self, collection: str, item_id: str) -> None:
        super().__init__(f"collection {collection!r} has no item {item_id!r}")


class UnknownPerson(NotFound):
    """The collection has no item of this person."""

    code = "unknown_person"

    def __init__(self, collection: str, person_id: str) -> None:
        super().__init__(f"collection {collection!r} has nobody called {person_id!r}")


class UnknownSnapshot(NotFound):
    """No snapshot has this id."""

    code = "unknown_snapshot"

    def __init__(self, snapshot_id: str) -> None:
        super().__init__(f"there is no snapshot {snapshot_id!r}")


class UnknownJob(NotFound):
    """No job has this id; one that ended long ago may have been removed."""

    code = "unknown_job"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}")


class Conflict(ReidError):
    """The request contradicts what is stored."""

    status, code = 409, "conflict"


class TooFewLabels(Conflict):
    """Too few persons are labelled to say what a score means."""

    code = "too_few_labels"


class PersonExists(Conflict):
    """The new name is somebody's already."""

    code = "person_exists"

    def __init__(self, collection: str, person_id: str) -> None:
        super().__init__(f"collection {collection!r} has somebody called {person_id!r}; merge the two if they are one")


class CollectionExists(Conflict):
    """A collection of this name is there, and is not to be mixed with what comes."""

    code = "collection_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a collection {name!r} already; give the new one another name")


class NothingToUndo(Conflict):
    """No merge of this collection can be undone."""

    code = "nothing_to_undo"

    def __init__(self, collection: str) -> None:
        super().__init__(f"collection {collection!r} has no merge to undo: only the last one can be, once")


class FingerprintMismatch(Conflict):
    """Vectors of one model were offered to a collection of another."""

    code = "fingerprint_mismatch"

    def __init__(self, collection: str, stored: str, offered: str) -> None:
        super().__init__(
            f"collection {collection!r} holds vectors of model {stored}, the loaded model is {offered}; "
            "their scores mean nothing to each other: make a new collection and index the crops again"
        )


class ForeignVectors(Conflict):
    """Vectors were brought that another model made than the loaded one."""

    code = "fingerprint_mismatch"

    def __init__(self, loaded: str, offered: str) -> None:
        super().__init__(
            f"these vectors are of model {offered}, the loaded model is {loaded}; "
            "load the model that made them, or send the crops themselves"
        )


class Overloaded(ReidError):
    """The queue is full; come back after `retry_after_s` seconds."""

    status, code = 429, "overloaded"

    def __init__(self, sentence: str, retry_after_s: int) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class Unavailable(ReidError):
    """The service cannot do this now."""

    status, code = 503, "unavailable"


class DeadlinePassed(Unavailable):
    """The time that the request had is over; what was still to do for it was left."""

    status, code = 504, "deadline_passed"


class NotReady(Unavailable):
    """The service is starting or stopping."""

    code = "not_ready"


class Interrupted(Unavailable):
    """The server stopped before a job was done; ask for it again."""

    code = "interrupted"


class DeviceFailed(Unavailable):
    """The model could not embed a batch."""

    code = "device_failed"


class DeviceLost(DeviceFailed):
    """The device, or the process that holds it, is gone or not to be trusted any more: open it anew."""


class StorageFailed(Unavailable):
    """The gallery's disk or database refused; nothing was half done."""

    code = "storage_failed"


class AuditBroken(Unavailable):
    """The audit's chain does not hold."""

    code = "audit_broken"


class SetupError(ReidError):
    """Something about this installation, told to its operator."""

    code = "setup"


class BadModelDirectory(SetupError):
    """The model directory is missing, incomplete or damaged."""

    code = "bad_model_directory"


class BadCheckpoint(SetupError):
    """The training checkpoint cannot be used."""

    code = "bad_checkpoint"


class VerificationFailed(SetupError):
    """A compiled model does not give the vectors that the checkpoint's network gives."""

    code = "verification_failed"


class CompileFailed(SetupError):
    """ATC did not make an OM of a graph."""

    code = "compile_failed"


class BadDevice(SetupError):
    """A device cannot be used as it is set up; trying again changes nothing."""

    code = "bad_device"


class DataDirectoryBusy(SetupError):
    """Another process owns the data directory."""

    code = "data_directory_busy"

    def __init__(self, path: str, pid: str) -> None:
        super().__init__(f"{path} is in use by process {pid}; talk to that one with --url, or stop it first")


class BadSettings(SetupError):
    """A setting is unknown, malformed or unsafe."""

    code = "bad_settings"


class ServerUnreachable(SetupError):
    """No server answers at the given address."""

    code = "server_unreachable"


class ServerRefused(SetupError):
    """A server refused; the sentence is the server's, `answered` its status."""

    code = "server_refused"

    def __init__(self, answered: int, sentence: str, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.answered = answered
        self.retry_after_s = retry_after_s

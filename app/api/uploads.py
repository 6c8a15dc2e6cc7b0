"""The ways a picture comes in: multipart field `image`, raw body, base64 in JSON. Read once, with the caps that apply."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from app.errors import BadField, BadRequest, TooLarge, UnsupportedMedia
from app.service.embed import Upload

Body = TypeVar("Body", bound=BaseModel)
RAW_TYPES = ("image/", "application/octet-stream")


def media_type(request: Request) -> str:
    """The body's media type, lower case, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(request: Request) -> bool:
    """Whether the body is JSON."""
    return media_type(request) == "application/json"


async def read_json(request: Request, model: type[Body]) -> Body:
    """The body as a schema. Raises BadRequest for what is not JSON, BadField for the first thing wrong in it."""
    try:
        return await asyncio.to_thread(model.model_validate_json, await request.body())  # may be many megabytes
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise BadRequest(f"the body is not JSON: {first['msg']}") from error
        raise BadField(".".join(map(str, first["loc"])) or "body", first["msg"]) from error


async def read_images(request: Request, most: int) -> list[Upload]:
    """The pictures of a multipart or raw body, 1 to `most`. Raises UnsupportedMedia, BadField, TooLarge."""
    kind = media_type(request)
    if kind == "multipart/form-data":
        async with form_of(request, most) as form:
            return await files_of(form, "image", most)
    if kind.startswith(RAW_TYPES):
        return [Upload("image", await request.body())]
    taken = "multipart/form-data with a field `image`, image/*, application/octet-stream or application/json"
    raise UnsupportedMedia(f"content type {kind or 'missing'!r}; this route takes {taken}")


@asynccontextmanager
async def form_of(request: Request, most: int) -> AsyncIterator[FormData]:
    """A multipart form with at most so many files. Raises TooLarge, BadRequest."""
    try:
        form = await request.form(max_files=most, max_fields=16)
    except HTTPException as error:
        if "Too many files" in error.detail:
            raise TooLarge(f"more than {most} crops in one request") from error
        raise BadRequest(f"the multipart body cannot be read: {error.detail}") from error
    try:
        yield form
    finally:
        await form.close()


async def files_of(form: FormData, field: str, most: int, also: Set[str] = frozenset()) -> list[Upload]:
    """The files of one field of a form, in order; `also` names the other fields there may be. Raises BadField, TooLarge."""
    if unknown := sorted(set(form) - {field} - also):
        raise BadField(unknown[0], "is no field of this form; options are query parameters")
    values = form.getlist(field)
    if not values:
        raise BadField(field, f"the form has no file in the field `{field}`")
    if len(values) > most:
        raise TooLarge(f"more than {most} crops in the field `{field}`")
    if any(not isinstance(value, UploadFile) for value in values):
        raise BadField(field, "is text; send a file (with curl: -F image=@crop.jpg)")
    return [Upload(v.filename or field, await v.read()) for v in values if isinstance(v, UploadFile)]


async def from_base64(text: str, field: str) -> Upload:
    """A picture from base64, with or without a `data:` prefix. Raises BadField."""
    try:
        data = await asyncio.to_thread(base64.b64decode, text.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadField(field, "is not base64") from error
    return Upload(field, data)


async def listed_from_base64(images: str | Sequence[str], field: str, most: int) -> list[Upload]:
    """One picture or several of one person from base64. Raises BadField, TooLarge."""
    if isinstance(images, str):
        return [await from_base64(images, field)]
    if len(images) > most:
        raise TooLarge(f"{field}: {len(images)} crops of one person; at most {most} are taken")
    return [await from_base64(text, f"{field}.{i}") for i, text in enumerate(images)]

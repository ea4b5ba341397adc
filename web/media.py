"""Serve pictures and clips by content hash: who knows the address may see it, and it never changes."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from engine.media import MediaStore

TYPES = {
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif",
    "bmp": "image/bmp", "mp4": "video/mp4", "webm": "video/webm", "wav": "audio/wav", "mp3": "audio/mpeg",
    "json": "application/json", "txt": "text/plain; charset=utf-8", "csv": "text/csv; charset=utf-8",
}  # fmt: skip
HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}


class MediaRoute:
    """GET /media/{name}."""

    def __init__(self, store: MediaStore) -> None:
        self._store = store

    async def __call__(self, request: Request) -> Response:
        """Answer the file, or 404 for every name that is not one of the store's."""
        name = request.path_params["name"]
        path = self._store.path(name)
        if path is None or not path.is_file():
            raise HTTPException(404)
        headers = HEADERS | {"ETag": f'"{name}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        kind = TYPES.get(path.suffix[1:], "application/octet-stream")
        return FileResponse(path, media_type=kind, headers=headers)

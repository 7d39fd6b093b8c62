"""A bare Litestar handler, without batching; for granian with 2 workers."""

from litestar import Litestar, Request, Response, post
from ranker import Ranker, decode

RANKER = Ranker()


@post("/v1/rank", status_code=200)
async def rank(request: Request) -> Response[bytes]:
    (slate,) = RANKER.rank([decode(await request.body())])
    return Response(slate, media_type="application/json")


app = Litestar([rank], openapi_config=None)

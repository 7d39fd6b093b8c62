"""A bare FastAPI handler, without batching; for uvicorn with 2 workers."""

from fastapi import FastAPI, Request, Response
from ranker import Ranker, decode

RANKER = Ranker()
app = FastAPI()


@app.post("/v1/rank")
async def rank(request: Request) -> Response:
    (slate,) = RANKER.rank([decode(await request.body())])
    return Response(slate, media_type="application/json")

"""One call to a running service, for verbs that ask it something."""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import httpx
    import msgspec

Reply = TypeVar("Reply")

_DONE = frozenset((200, 201))


def call(
    url: str,
    path: str,
    api_key: str | None,
    kind: type[Reply],
    *,
    body: "msgspec.Struct | None" = None,
) -> tuple[str, Reply]:
    """An answer, as it is and decoded.

    Args:
        url: Where the service listens.
        path: What is asked for.
        api_key: Sent as bearer key.
        kind: What the answer is.
        body: To be posted; None asks by GET.

    Raises:
        InputError: nobody can be reached, Podium refused, or it is not Podium that answers.
    """
    import httpx
    import msgspec

    from ranking_models.errors import InputError
    from service.addresses import address_problem

    if problem := address_problem(url):
        raise InputError(problem)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    method, content = ("GET", None) if body is None else ("POST", msgspec.json.encode(body))
    headers |= {} if body is None else {"Content-Type": "application/json"}
    try:
        # Not through a proxy of the environment: the URL names the service itself.
        response = httpx.request(
            method,
            url.rstrip("/") + path,
            headers=headers,
            content=content,
            timeout=10,
            trust_env=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"no answer from {url} ({reason}); is podium serve running?") from None
    except UnicodeEncodeError:
        raise InputError("the API key has characters that no HTTP header takes") from None
    if response.status_code not in _DONE:
        raise InputError(f"{url}{path}: {_refusal(response)}")
    try:
        return response.text, msgspec.json.decode(response.content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{url}{path}: the answer is not Podium's: {error}") from None


def _refusal(response: "httpx.Response") -> str:
    import msgspec

    from service.messages import Problem

    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return f"HTTP {response.status_code}, and no answer of Podium's"
    return f"{problem.code}: {problem.detail}"

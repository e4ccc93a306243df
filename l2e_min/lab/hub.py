"""What loads from the Hugging Face hub share: names, whether the hub answers, what to say when a load fails."""

from collections.abc import Iterator

from l2e_min.lab.errors import UserError
from l2e_min.lab.settings import VARIABLE

WAYS_OUT = f"{VARIABLE}=quick (mini models, installed text) works without the hub"


def split_name(name: str) -> tuple[str, str]:
    """("NAME", "REVISION") of ``hub:NAME[@REVISION]``; without one the revision is "main"."""
    repository, _, revision = name.removeprefix("hub:").partition("@")
    if not repository:
        raise UserError(f"no name in {name!r}; write hub:NAME or hub:NAME@REVISION, as in hub:EleutherAI/pythia-70m")
    return repository, revision or "main"


def reachable(timeout: float = 5.0) -> bool:
    """Whether the hub answers, not with an error of its own (5xx), in ``timeout`` seconds to connect and to reply.

    Asked once before a load: the libraries themselves retry an absent hub for half a minute a file, and much longer for
    datasets. Asks by their own client, so that HF_ENDPOINT, their proxies and certificates count. A mirror may have no
    front page, refuse to show it, or send away from it, and still serve files. Nobody is asked where ``offline``.
    """
    from huggingface_hub import constants, get_session

    try:
        answer = get_session().head(constants.ENDPOINT, timeout=timeout, follow_redirects=False)
    except Exception:  # refused, unknown host, no answer in time, a proxy's fault, offline by choice
        return False
    return answer.status_code < 500


def offline() -> bool:
    """Whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set, as the libraries read them when they are imported."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def trouble(doing: str, error: BaseException | None = None, *, here: bool = True) -> UserError:
    """The one-line ``UserError`` for a load that failed: what happened, what to do, and what works without the hub.

    ``doing``: "load the model hub:NAME". ``error``: what the library raised; its causes count too, because transformers
    words many of them alike. ``here``: whether the hub had answered (see ``reachable``).
    """
    from huggingface_hub import constants, errors

    chain = list(causes(error))
    status = {e.response.status_code for e in chain if isinstance(e, errors.HfHubHTTPError) and e.response is not None}

    def came_from(*kinds: type) -> bool:
        return any(isinstance(e, kinds) for e in chain)

    if not here and offline():
        reason = "it is not in this machine's cache and HF_HUB_OFFLINE is set; unset it to download"
    elif not here:
        reason = f"{constants.ENDPOINT} does not answer and it is not in this machine's cache; check the connection"
    elif came_from(errors.GatedRepoError) or " is a gated dataset " in str(error):
        reason = "its owner asks for consent; give it on its page, then log in with: hf auth login"
    elif came_from(errors.RevisionNotFoundError):
        reason = "there is no such revision; Pythia's are main and step0 to step143000"
    elif came_from(errors.RepositoryNotFoundError) or status & {401, 403, 404}:
        reason = "no such name, or it is private; check the spelling, or log in with: hf auth login"
    elif "cannot be loaded with `safetensors`" in str(error):
        reason = "it has no safetensors, and pickled weights are not loaded; choose a revision that has them"
    elif "Compression type zstd not supported" in str(error):
        reason = "its files are packed with zstd, and the package for it is missing; run: pip install zstandard"
    else:
        reason = f"{first_line(error)[:200]}; try again" if error else "no reason given"
    return UserError(f"cannot {doing}: {reason}; {WAYS_OUT}")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what caused it, and so on."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a one-line ``UserError``."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

"""What the hostile vendors can be told to do. A script is for one operation: the first request that asks for it."""

from typing import Final

# name: (what happens, whether the vendor bills for it)
SCRIPTS: Final[dict[str, tuple[str, bool]]] = {
    "ok": ("the work is done and answered", True),
    "slow": ("the work takes a while", True),
    "hang": ("the answer comes after 90 s, or when somebody gives up", True),
    "hang_up": ("the request is read and the connection closed; nothing was done", False),
    "accept_then_drop": ("the work is done, and the connection closed without a word", True),
    "answer_cut": ("the work is done, and half of the answer sent", True),
    "html_200": ("the work is done, and a page of HTML says 200", True),
    "garbage_json": ("the work is done, and the answer is broken JSON", True),
    "rate_limited": ("429 with Retry-After", False),
    "capacity": ("the vendor is overloaded and says so", False),
    "error_500": ("an internal error, told in the vendor's own format", False),
    "html_502": ("the vendor's edge answers for it: nobody knows what happened behind", True),
    "wrong_key": ("the key is refused", False),
    "model_gone": ("the model is no longer there", False),
    "invalid": ("the request is refused as malformed", False),
    "prompt_blocked": ("the request is refused for its content", False),
    "nsfw": ("the work is done and withheld for its content", True),
    "recitation": ("the work is done and withheld, being too close to an existing work", True),
    "no_image": ("the work is done, and there is no image in the answer", True),
    "truncated_image": ("the image is cut in half", True),
    "result_html": ("where the image should be, there is a page of HTML", True),
    "expired_url": ("the result's address has gone by the time it is fetched", True),
    "failed": ("the vendor took the work and failed at it", False),
    "aborted": ("the vendor took the work and gave it up before it began", False),
    "unknown_status": ("the vendor tells of a status that nobody knows", True),
    "other_model": ("the work is done by another model than was asked for", True),
    "webhook_missing": ("no webhook is sent", True),
    "webhook_duplicate": ("every webhook is sent five times", True),
    "webhook_early": ("the webhook comes before the answer to the request", True),
    "webhook_late": ("the webhook comes long after the work was done", True),
    "webhook_forged": ("the webhook's signature is somebody else's", True),
    "webhook_unsigned": ("the webhook has no signature", True),
    "webhook_stale": ("the webhook was signed ten minutes ago", True),
    "webhook_altered": ("the webhook's body is not the one that was signed", True),
    "lost_silent": ("as accept_then_drop, and no webhook is sent", True),
    "lost_forged": ("as accept_then_drop, and the webhook's signature is somebody else's", True),
    "lost_repeated": ("as accept_then_drop, and the webhook is sent five times", True),
}
# The answer is lost, and then the webhook is that of another script.
LOST_AND: Final = {
    "lost_silent": "webhook_missing",
    "lost_forged": "webhook_forged",
    "lost_repeated": "webhook_duplicate",
}

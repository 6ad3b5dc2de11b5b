"""What all routes declare alike that have a step of something made for credits: a session's, a technical pack's."""

from collections.abc import Callable, Sequence
from typing import Any

from services.gateway import jobs
from services.gateway.authentication import api_key
from services.gateway.routes.jobs import PAID_ANSWERS, PAID_PROBLEMS
from services.gateway.routes.wiring import links_now
from shared.http import Handler, route
from shared.problems import Problem, StepNotAllowed


def paid_step(url: str, *, problems: Sequence[type[Problem]] = (), **declared: Any) -> Callable[[Handler], Handler]:
    """Serve ``POST url`` by a method that returns a step's job: paid for, once however often it is asked for.

    A step that is not its turn is 409; ``problems`` are further ones. What else is ``declared`` is as `route` takes
    it: at least body and summary.
    """
    return route(
        "POST",
        url,
        auth=api_key,
        guard=jobs.patient(links_now),
        money=True,
        holds=True,
        answers=PAID_ANSWERS,
        problems=(*PAID_PROBLEMS, StepNotAllowed, *problems),
        **declared,
    )

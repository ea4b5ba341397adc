"""Put the web layer together: one application for one port."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from engine.errors import Unavailable
from engine.flow import Flow
from engine.refusal import Refusal
from web.docs import DocsRoutes
from web.errors import Shield, answer_error
from web.guard import Guard
from web.health import HealthRoute, live
from web.login import LoginRoute, Logins, WhoRoute
from web.media import MediaRoute
from web.metrics import CountRequests, Metrics
from web.routes import FlowRoutes, Handler, MoreRoutes, QuickRouter, Resource
from web.services import Services

STATIC = Path(__file__).parent / "static"


class WebApp(Starlette):
    """The application; `flow_routes.replace(flows)` follows a deploy, `guard` and `logins` serve other routes."""

    def __init__(
        self,
        flows: Sequence[Flow],
        services: Services,
        routes: Sequence[BaseRoute] = (),
        more: MoreRoutes | None = None,
        origins: Sequence[str] = (),
    ) -> None:
        self.guard = Guard(services.database, services.secret)
        self.logins = Logins(services.database)
        self.metrics = Metrics(services)
        self.flow_routes = FlowRoutes(services, self.guard, more)
        self.flow_routes.replace(flows)
        super().__init__(
            routes=[*_own(self, services), *routes, Mount("", self.flow_routes)],
            middleware=[Middleware(CountRequests, metrics=self.metrics), *_cross_origin(origins), Middleware(Shield)],
            exception_handlers=dict.fromkeys((HTTPException, Refusal, Unavailable, SQLAlchemyError), answer_error),
            lifespan=_lifespan,
        )
        self.router = QuickRouter(self.flow_routes, self.router.routes, _lifespan)


def build_app(
    flows: Sequence[Flow],
    services: Services,
    routes: Sequence[BaseRoute] = (),
    more: MoreRoutes | None = None,
    origins: Sequence[str] = (),
) -> WebApp:
    """Return the application for these flows.

    `routes` come before the flows' own, `more` gives further routes for each flow; pages of `origins` (none by default)
    may call it from a browser.
    """
    return WebApp(flows, services, routes, more, origins)


def _cross_origin(origins: Sequence[str]) -> list[Middleware]:
    if not origins:
        return []
    headers = ["Authorization", "Content-Type", "Idempotency-Key"]
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [Middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=methods, allow_headers=headers)]


def _own(app: WebApp, services: Services) -> list[BaseRoute]:
    docs = DocsRoutes(app.flow_routes)
    get: dict[str, Handler] = {
        "/auth/me": WhoRoute(app.guard),
        "/health": HealthRoute(services),
        "/health/live": live,
        "/metrics": app.metrics,
        "/docs": docs.page,
        "/openapi.json": docs.schema,
        "/media/{name}": MediaRoute(services.media),
    }
    return [
        Route("/auth/login", Resource({"POST": LoginRoute(app.logins, app.guard)})),
        *(Route(path, Resource({"GET": handler})) for path, handler in get.items()),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


@asynccontextmanager
async def _lifespan(app: WebApp) -> AsyncIterator[None]:
    yield
    app.logins.close()

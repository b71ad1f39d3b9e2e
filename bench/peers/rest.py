"""The peer: FastAPI, uvicorn and SQLAlchemy async over asyncpg, reading the account that UserService reads.

`python -m bench.peers.rest PORT`, with WEFT_BENCH_DATABASE_URL. No gateway, no token, no limits, no TLS; one
worker. `/row/{id}` answers the account's own row, `/user/{id}` all that GetUser answers, by one
statement.
"""

import os
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.peers.running import DATABASE_URL

POOL = 8  # As one service of the mesh has.


class Base(DeclarativeBase):
    """Rows of identity's database."""


class Person(Base):
    __tablename__ = "person"
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str | None]
    display_name: Mapped[str]
    locale: Mapped[str]
    zone: Mapped[str]
    state: Mapped[str]
    revision: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class RoleGrant(Base):
    __tablename__ = "role_grant"
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)


class Totp(Base):
    __tablename__ = "totp"
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    confirmed_at: Mapped[datetime | None]


class Row(BaseModel):
    """An account's own row."""

    model_config = ConfigDict(from_attributes=True)
    user_id: UUID
    email: str | None
    display_name: str
    locale: str
    zone: str
    state: str
    revision: int
    created_at: datetime
    updated_at: datetime


class User(Row):
    """An account as UserService shows it."""

    roles: list[str]
    second_factor: bool


HELD = select(func.coalesce(func.array_agg(RoleGrant.role), [])).where(RoleGrant.user_id == Person.user_id)
PROVED = exists().where(Totp.user_id == Person.user_id, Totp.confirmed_at.is_not(None))
WHOLE = select(Person, HELD.scalar_subquery().label("roles"), PROVED.label("second_factor"))


def application(url: str) -> FastAPI:
    engine = create_async_engine(
        url.replace("postgresql:", "postgresql+asyncpg:"), pool_size=POOL, max_overflow=0
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    app = FastAPI()

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened:
            yield opened

    @app.get("/row/{user_id}", response_model=Row)
    async def row(user_id: UUID, opened: Annotated[AsyncSession, Depends(session)]) -> Any:
        if (person := await opened.get(Person, user_id)) is None:
            raise HTTPException(404)
        return person

    @app.get("/user/{user_id}", response_model=User)
    async def user(user_id: UUID, opened: Annotated[AsyncSession, Depends(session)]) -> Any:
        found = (await opened.execute(WHOLE.where(Person.user_id == user_id))).one_or_none()
        if found is None:
            raise HTTPException(404)
        own = Row.model_validate(found[0])
        return User(**dict(own), roles=["user", *found.roles], second_factor=found.second_factor)

    return app


if __name__ == "__main__":
    uvicorn.run(
        application(os.environ[DATABASE_URL]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )

"""Those that are the same on asyncio and on Trio."""

from __future__ import annotations

from plugin.ownership.program import Program

CLIENT = Program(
    "client",
    """
    @pytest.fixture
    async def NAME_TWIN():
        client = Client()
        yield client
        await client.aclose()  # teardown

    async def test_NAME_TWIN(NAME_TWIN):
        NAME_TWIN.ask()
    """,
)

WEAK_REFERENCE = Program(
    "weak_reference",
    """
    @pytest.fixture
    async def NAME_TWIN():
        client = Client()
        yield weakref.proxy(client)
        await client.aclose()  # teardown

    async def test_NAME_TWIN(NAME_TWIN):
        NAME_TWIN.ask()
    """,
)

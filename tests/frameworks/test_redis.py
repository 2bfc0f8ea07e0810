"""redis-py against a real Redis server."""

from __future__ import annotations

import asyncio
import os

import pytest

from support import WAIT
from tpio import aio

redis = pytest.importorskip("redis.asyncio", reason="redis is not installed: python dev.py frameworks")

PORT = os.environ.get("TPIO_TEST_REDIS")

pytestmark = pytest.mark.skipif(PORT is None, reason="no Redis server: python dev.py frameworks has one, off Windows")


def run(main):
    """main(client) with an empty database."""

    async def within():
        async with redis.Redis(host="127.0.0.1", port=int(PORT)) as client:
            await client.flushdb()
            await main(client)

    aio.run(asyncio.wait_for(within(), WAIT))


def test_values_of_all_sizes():
    async def main(client):
        for size in (0, 1, 1000, 3_000_001):
            value = os.urandom(size)
            await client.set("value", value)
            assert await client.get("value") == value

    run(main)


def test_many_tasks_with_a_connection_each_and_a_pipeline():
    async def main(client):
        async def count():
            for _ in range(10):
                await client.incr("counter")

        await asyncio.gather(*(count() for _ in range(30)))
        assert await client.get("counter") == b"300"
        async with client.pipeline() as pipeline:
            for number in range(1000):
                pipeline.rpush("list", number)
            await pipeline.execute()
        assert await client.lrange("list", 0, -1) == [str(number).encode() for number in range(1000)]

    run(main)


def test_publish_and_subscribe():
    async def main(client):
        async with client.pubsub() as subscription:
            await subscription.subscribe("channel")
            heard = subscription.listen()
            assert (await anext(heard))["type"] == "subscribe"
            for number in range(100):
                await client.publish("channel", number)
                assert (await anext(heard))["data"] == str(number).encode()

    run(main)


def test_a_blocking_command_that_is_cancelled():
    async def main(client):
        for _ in range(10):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.blpop("nothing"), 0.02)
            assert await client.ping()

    run(main)

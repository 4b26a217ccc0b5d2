"""aio-kong against the Admin API: everything that the client can do.

Called with the Admin API's URL and a folder with `cert.pem` and `key.pem`. Prints `ok NAME` for
each case; a case that fails ends the run.
"""

import asyncio
import pathlib
import sys

from kong.client import Kong, KongResponseError

CASES = []


def case(function):
    CASES.append(function)
    return function


async def refused(status, work):
    try:
        await work
    except KongResponseError as error:
        assert error.status == status, str(error)
        return error.message
    raise AssertionError(f"not refused with {status}")


@case
async def services(cli, _folder):
    made = await cli.services.create(name="first", host="a.example", port=8080)
    assert made.name == "first" and made.host == "a.example" and made.protocol == "http"
    assert (await cli.services.get("first")).id == made.id
    assert (await cli.services.get(made.id)).name == "first"
    assert await cli.services.has("first") and not await cli.services.has("none")
    changed = await cli.services.update("first", host="b.example")
    assert changed.host == "b.example" and changed["port"] == 8080
    await refused(404, cli.services.update("none", host="b.example"))
    message = await refused(409, cli.services.create(name="first", host="a.example"))
    assert message["code"] == 5, message
    message = await refused(400, cli.services.create(name="second"))
    assert message["fields"] == {"host": "required field missing"}, message
    assert await cli.services.delete("first") is True
    await refused(404, cli.services.get("first"))


@case
async def routes(cli, _folder):
    service = await cli.services.create(name="first", host="a.example")
    route = await service.routes.create(name="r", paths=["/r"], methods=["GET"])
    assert route["service"]["id"] == service.id
    await refused(400, service.routes.create(hosts=["*.*"]))
    assert [known.id for known in await service.routes.get_list()] == [route.id]
    changed = await service.routes.update(route.id, hosts=["a.example"])
    assert changed["hosts"] == ["a.example"] and changed["paths"] == ["/r"]
    assert await service.routes.has("r")
    await service.routes.delete(route.id)
    assert await service.routes.get_list() == []


@case
async def plugins(cli, _folder):
    service = await cli.services.create(name="first", host="a.example")
    limit = await service.plugins.create(name="rate-limiting", config={"minute": 5})
    assert limit["config"]["minute"] == 5 and limit["config"]["policy"] == "local"
    changed = await service.plugins.update(limit.id, config={"hour": 50})
    assert changed["config"]["minute"] == 5 and changed["config"]["hour"] == 50
    everywhere = await cli.plugins.create(name="key-auth")
    assert everywhere["service"] is None and len(await cli.plugins.get_list()) == 2
    message = await refused(400, cli.plugins.create(name="nothing-like-this"))
    assert "not enabled" in message["fields"]["name"], message
    stop = {"name": "request-termination", "config": {"status_code": 403}}
    applied = await service.plugins.apply_json([stop])
    assert [plugin["name"] for plugin in applied] == ["request-termination"]
    left = [plugin.get("name") for plugin in await service.plugins.get_list()]
    assert left == ["request-termination"], left


@case
async def consumers_with_credentials(cli, _folder):
    anna = await cli.consumers.create(username="anna", custom_id="4711")
    assert anna.username == "anna"
    assert (await cli.consumers.get_list(custom_id="4711"))[0].id == anna.id
    key = await anna.keyauths.create(key="k-anna")
    assert key["key"] == "k-anna" and key["consumer"]["id"] == anna.id
    assert len((await anna.keyauths.create())["key"]) == 32
    await anna.keyauths.create_or_update_credentials({"key": "k-2"})
    await anna.keyauths.create_or_update_credentials({"key": "k-2"})
    assert len(await anna.keyauths.get_list()) == 3
    await refused(409, anna.keyauths.create(key="k-anna"))
    token = await anna.jwts.create()
    assert token["algorithm"] == "HS256" and len(token["secret"]) == 32
    assert (await anna.jwts.get_or_create()).id == token.id
    login = await anna.basicauths.create(username="anna", password="secret")
    assert login["username"] == "anna" and login["password"] != "secret"
    again = {"username": "anna", "password": "other"}
    changed = await anna.basicauths.create_or_update_credentials(again)
    assert changed.id == login.id and changed["password"] != login["password"]
    await anna.basicauths.delete(login.id)
    assert await anna.basicauths.get_list() == []


@case
async def groups(cli, _folder):
    anna = await cli.consumers.create(username="anna")
    group = await anna.acls.create(group="staff")
    assert group["group"] == "staff" and len(await anna.acls.get_list()) == 1
    assert len(await cli.acls.get_list()) == 1
    await refused(409, anna.acls.create(group="staff"))
    await anna.acls.delete(group.id)
    assert await cli.acls.get_list() == []


@case
async def certificates_and_snis(cli, folder):
    pem = {"cert": (folder / "cert.pem").read_text(), "key": (folder / "key.pem").read_text()}
    made = await cli.certificates.create(**pem, snis=["a.example"])
    assert made["snis"] == ["a.example"] and made["cert"] == pem["cert"]
    assert (await cli.certificates.get("a.example")).id == made.id
    sni = await made.snis.create(name="b.example")
    assert sni["certificate"]["id"] == made.id
    assert (await cli.certificates.get(made.id))["snis"] == ["a.example", "b.example"]
    assert sorted(known.name for known in await cli.snis.get_list()) == ["a.example", "b.example"]
    other = await cli.certificates.create(**pem)
    pointer = {"id": other.id}
    await cli.snis.apply_json({"name": "b.example", "certificate": pointer})
    await cli.snis.apply_json({"name": "c.example", "certificate": pointer})
    assert (await cli.certificates.get(other.id))["snis"] == ["b.example", "c.example"]
    await refused(400, cli.certificates.create(cert=pem["cert"], key="junk"))
    await cli.snis.delete("c.example")
    await cli.certificates.delete(other.id)
    assert [known.name for known in await cli.snis.get_list()] == ["a.example"]


@case
async def pages(cli, _folder):
    for number in range(25):
        await cli.consumers.create(username=f"c{number}", tags=["page"])
    found = [one.username async for one in cli.consumers.paginate(size=10)]
    assert sorted(found) == sorted(f"c{number}" for number in range(25)), found
    assert len(await cli.consumers.get_full_list(size=7, tags="page")) == 25
    assert len(await cli.consumers.get_list(size=7)) == 7


CONFIGURATION = {
    "services": [
        {
            "name": "shop",
            "host": "shop.example",
            "port": 8443,
            "protocol": "https",
            "plugins": [{"name": "rate-limiting", "config": {"second": 9}}],
            "routes": [
                {
                    "name": "shop-all",
                    "hosts": ["shop.example"],
                    "paths": ["/"],
                    "plugins": [{"name": "request-termination", "config": {"status_code": 418}}],
                }
            ],
        },
        {"name": "gone", "ensure": "absent"},
    ],
    "consumers": [
        {
            "username": "anna",
            "groups": ["staff"],
            "auths": [
                {"type": "key-auth", "config": {"key": "k-anna"}},
                {"type": "basic-auth", "config": {"username": "anna", "password": "p"}},
            ],
        }
    ],
    "plugins": [{"name": "cors", "config": {"origins": ["*"]}}],
}


@case
async def whole_configurations(cli, _folder):
    await cli.services.create(name="gone", host="gone.example")
    for _ in range(2):
        await cli.apply_json(CONFIGURATION)
        shop = await cli.services.get("shop")
        assert shop["protocol"] == "https" and shop["port"] == 8443
        assert not await cli.services.has("gone")
        route = (await shop.routes.get_list())[0]
        assert [one["name"] for one in await route.plugins.get_list()] == ["request-termination"]
        anna = await cli.consumers.get("anna")
        assert [one["group"] for one in await anna.acls.get_list()] == ["staff"]
        assert [one["key"] for one in await anna.keyauths.get_list()] == ["k-anna"]
        names = [one["name"] for one in await cli.plugins.get_list() if not one["service"]]
        assert "cors" in names, names


async def main():
    folder = pathlib.Path(sys.argv[2])
    async with Kong(sys.argv[1]) as cli:
        for function in CASES:
            await cli.delete_all()
            await asyncio.wait_for(function(cli, folder), 60)
            print(f"ok {function.__name__}", flush=True)
        await cli.delete_all()


asyncio.run(main())

"""What is told about two views, and how much of it is remembered."""

from __future__ import annotations

from copy import deepcopy

from msgspec.structs import replace

from qustream.model.network import DeviceEntry
from qustream.registry import Change, ChangeKind
from qustream.registry.changes import CHANGES_KEPT, ChangeLog, differences


def test_equal_contents_do_not_differ(network):
    assert list(differences(network.writer.contents, deepcopy(network.writer.contents))) == []


def test_everything_that_may_happen_is_told(network):
    old = network.writer.contents
    new = deepcopy(old)
    new.version = 9
    first, second, *_ = sorted(old.nodes)
    del new.nodes[first]
    new.nodes[second] = new.nodes[second]._replace(record=replace(new.nodes[second].record, weight=7))
    (server,) = old.qrng_servers
    del new.qrng_servers[server]
    del new.users[network.bob]
    record = new.users[network.alice].record
    (laptop,) = record.devices
    phone = DeviceEntry(b"p" * 32, False)
    dead = DeviceEntry(b"d" * 32, True)
    devices = (replace(laptop, revoked=True), phone, dead)
    new.users[network.alice] = new.users[network.alice]._replace(record=replace(record, devices=devices))
    (grant,) = old.grants
    new.grants[grant] = replace(new.grants[grant], epoch=5)
    new.grants[b"g" * 32] = replace(new.grants[grant], grant=b"g" * 32)
    kinds = ChangeKind
    expected = {
        Change(9, kinds.NODE_REMOVED, first),
        Change(9, kinds.NODE_CHANGED, second),
        Change(9, kinds.QRNG_SERVER_REMOVED, server),
        Change(9, kinds.USER_CHANGED, network.alice),
        Change(9, kinds.USER_REMOVED, network.bob),
        Change(9, kinds.DEVICE_REVOKED, laptop.device, network.alice),
        Change(9, kinds.DEVICE_ADDED, phone.device, network.alice),
        Change(9, kinds.GRANT_CHANGED, grant),
        Change(9, kinds.GRANT_ADDED, b"g" * 32),
    }
    told = list(differences(old, new))
    assert set(told) == expected
    assert len(told) == len(expected)
    back = {change.kind for change in differences(new, old)}
    assert {kinds.NODE_ADDED, kinds.QRNG_SERVER_ADDED, kinds.USER_ADDED, kinds.GRANT_REMOVED} < back
    assert Change(1, kinds.DEVICE_REVOKED, phone.device, network.alice) in set(differences(new, old))


def test_the_log_tells_what_came_after(network):
    log = ChangeLog(3).extended(5, [Change(5, ChangeKind.NODE_ADDED, b"a")]).extended(6, [Change(6, ChangeKind.NODE_REMOVED, b"a")])
    assert [change.height for change in log.since(3)] == [5, 6]
    assert [change.height for change in log.since(5)] == [6]
    assert log.since(6) == ()
    assert log.since(7) == ()
    assert log.since(2) == (Change(6, ChangeKind.EVERYTHING),)


def test_the_log_forgets_whole_heights():
    log = ChangeLog(0)
    for height in range(1, 4):
        log = log.extended(height, [Change(height, ChangeKind.NODE_ADDED, bytes([i % 256])) for i in range(CHANGES_KEPT // 2)])
    assert [change.kind for change in log.since(0)] == [ChangeKind.EVERYTHING]
    assert len(log.since(1)) == CHANGES_KEPT
    too_many = log.extended(4, [Change(4, ChangeKind.NODE_ADDED, b"x")] * (CHANGES_KEPT + 1))
    assert too_many.since(3) == (Change(4, ChangeKind.EVERYTHING),)
    assert too_many.since(4) == ()

"""Processes meet and watch each other: here as threads, in test_lost_processes.py for real."""

import concurrent.futures
import json
import os
import queue
import socket
import types

import numpy as np
import pytest

from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.parallel.messages import close_all, send_to_all
from alexnet_jax.parallel.peers import Peers
from alexnet_jax.parallel.rendezvous import PeerLost
from alexnet_jax.runtime.errors import UserError
from tests.support.launchers import free_ports


class Meeting:
    """Some ranks of a run as threads of this process; `lost` holds (rank, sentence)."""

    def __init__(self, count, join_seconds=5.0, silence_seconds=3.0):
        self.port, self.count = free_ports(), count
        self.join_seconds, self.silence_seconds = join_seconds, silence_seconds
        self.lost = queue.Queue()

    def join(self, rank, count=None):
        return Peers(
            "127.0.0.1",
            self.port,
            rank=rank,
            num_processes=count or self.count,
            join_seconds=self.join_seconds,
            on_loss=lambda sentence: self.lost.put((rank, sentence)),
            silence_seconds=self.silence_seconds,
        )

    def all(self):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return list(pool.map(self.join, range(self.count)))

    def vanish(self, peer):
        """End as a killed process does: at once, without a word and with all its threads."""
        peer._closing.set()
        peer._thread.join()
        close_all(peer._peers)

    def sentences(self, number):
        return dict(self.lost.get(timeout=20) for _ in range(number))


def test_after_a_farewell_nobody_is_missed():
    meeting = Meeting(3)
    for peer in meeting.all():
        peer.close()
    assert meeting.lost.empty()


@pytest.mark.parametrize("first", [0, 1])
def test_a_farewell_arrives_though_words_of_the_other_were_not_read(first):
    """Closed over unread words a connection is reset, and what was not sent yet is lost."""
    meeting = Meeting(2)
    peers = meeting.all()
    peers[first]._closing.set()
    peers[first]._thread.join()
    send_to_all(peers[1 - first]._peers, {})
    send_to_all(peers[first]._peers, {})  # the next message waits until this is acknowledged
    peers[first].close()
    peers[1 - first].close()
    assert meeting.lost.empty()


def test_all_others_are_told_which_process_ended():
    meeting = Meeting(4)
    peers = meeting.all()
    meeting.vanish(peers[2])
    sentences = meeting.sentences(3)
    assert set(sentences) == {0, 1, 3}
    assert len(set(sentences.values())) == 1
    assert sentences[0].startswith("Process 2 of 4 (")
    assert f"process id {os.getpid()}) was lost: it ended" in sentences[0]


def test_all_others_are_told_why_a_process_fails():
    meeting = Meeting(3)
    meeting.all()[1].failed("The disk of node 7 is full.")
    assert all(
        "Process 1" in s and "it failed: The disk of" in s for s in meeting.sentences(2).values()
    )


def test_the_end_of_process_0_is_seen_by_all():
    meeting = Meeting(3)
    meeting.vanish(meeting.all()[0])
    sentences = meeting.sentences(2)
    assert set(sentences) == {1, 2}
    assert all(
        text.startswith("Process 0 of 3 (127.0.0.1) was lost") for text in sentences.values()
    )


@pytest.mark.parametrize("silent", [0, 1])
def test_a_silent_process_is_lost(silent):
    """One that neither speaks nor ends, as when it is stopped."""
    meeting = Meeting(2, silence_seconds=1.0)
    peers = meeting.all()
    peers[silent]._closing.set()  # its thread ends, its connection stays open
    assert "has been silent for 1 s" in meeting.sentences(1)[1 - silent]


def test_who_does_not_come_is_named():
    meeting = Meeting(4, join_seconds=1.0)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first, second = pool.submit(meeting.join, 0), pool.submit(meeting.join, 2)
        for joining in (first, second):
            with pytest.raises(PeerLost, match=r"2 of 4 processes did not come within 1 s: 1, 3\."):
                joining.result()


def test_process_0_that_does_not_come_is_named():
    meeting = Meeting(2, join_seconds=0.5)
    with pytest.raises(PeerLost, match=rf"Process 0 did not answer at 127.0.0.1:{meeting.port}"):
        meeting.join(1)


@pytest.mark.parametrize(
    ("ranks", "counts", "sentence"),
    [((0, 1, 1), (3, 3, 3), "another process 1 already"), ((0, 1), (3, 2), "told of 2 processes")],
)
def test_processes_that_do_not_agree_are_refused(ranks, counts, sentence):
    meeting = Meeting(3, join_seconds=3.0)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        joining = [pool.submit(meeting.join, *pair) for pair in zip(ranks, counts, strict=True)]
        with pytest.raises(UserError, match=f"can't join as process 1: .*{sentence}"):
            joining[0].result()
        errors = [type(future.exception()) for future in joining[1:]]
    assert UserError in errors
    assert set(errors) <= {UserError, PeerLost}


def test_a_stranger_on_the_port_is_not_taken_in():
    meeting = Meeting(2)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(meeting.join, 0)
        for text in (b"GET / HTTP/1.0\n", b"[1]\n", json.dumps({"rank": "x"}).encode() + b"\n"):
            while True:
                try:
                    stranger = socket.create_connection(("127.0.0.1", meeting.port))
                    break
                except ConnectionRefusedError:
                    assert not first.done()
            with stranger:
                stranger.sendall(text)
                assert stranger.recv(100) == b""
        meeting.join(1).close()
        first.result().close()
    assert meeting.lost.empty()


def test_a_taken_port_is_named():
    meeting = Meeting(2)
    with (
        socket.create_server(("", meeting.port)),
        pytest.raises(UserError, match=f"Port {meeting.port} of this host can't be used"),
    ):
        meeting.join(0)


def devices_of(*counts):
    """Processes with so many devices each, as jax lists them."""
    return [
        types.SimpleNamespace(id=number, process_index=process)
        for number, process in enumerate(np.repeat(np.arange(len(counts)), counts))
    ]


def test_towers_stay_on_a_host():
    devices = devices_of(2, 2, 2, 2)
    grid = meshes.arrange_devices(devices[::-1], 2, host_of_process=[0, 1, 0, 1])
    hosts = [[0, 1, 0, 1][device.process_index] for device in grid.ravel()]
    assert hosts == [0, 0, 0, 0, 1, 1, 1, 1]
    one_each = meshes.arrange_devices(devices_of(1, 1, 1, 1), 2, host_of_process=[0, 1, 1, 0])
    assert [[device.id for device in row] for row in one_each] == [[0, 3], [1, 2]]


def test_a_host_that_can_not_hold_both_towers_is_named():
    with pytest.raises(UserError, match="the host of process 1 has 1: use the layout 'data'"):
        meshes.arrange_devices(devices_of(2, 1, 1), 2, host_of_process=[0, 1, 2])

"""Which rank works which samples: every sample once, the same steps for any number of ranks."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_mp.errors import UsageError
from lenet_mp.plan import GROUP_SIZE
from lenet_mp.training.loader import Loader, deal, default_streams

counts = st.lists(st.integers(1, 90), min_size=1, max_size=13)


def ids(loader, counts, epoch, size):
    """Sample ids by step, by group, collected over all ranks."""
    offsets = np.concatenate([[0], np.cumsum(counts)])
    steps = []
    for step in range(loader.steps):
        groups = []
        for rank in range(size):
            part = loader.part(epoch, step, rank, size)
            sample = offsets[part.shards] + part.rows
            starts = part.group_starts
            groups += [tuple(sample[a:b]) for a, b in itertools.pairwise(starts)]
        steps.append(sorted(groups))
    return steps


@given(counts, st.integers(1, 100), st.integers(1, 9), st.integers(1, 8), st.integers(0, 5), st.integers(1, 3))
def test_every_sample_exactly_once(counts, batch_size, streams, size, seed, epoch):
    """Whatever the shards and ranks, an epoch uses every sample exactly once."""
    loader = Loader(counts, batch_size=batch_size, streams=streams, seed=seed)
    used = sorted(i for step in ids(loader, counts, epoch, size) for group in step for i in group)
    assert used == list(range(sum(counts)))


@given(counts, st.integers(1, 100), st.integers(1, 9), st.integers(0, 5))
def test_a_batch_is_named_by_files_and_rows(counts, batch_size, streams, seed):
    """What a message says of a batch names exactly its samples."""
    loader = Loader(counts, batch_size=batch_size, streams=streams, seed=seed)
    for step in range(loader.steps):
        part = loader.part(1, step)
        named = re.findall(r"(\d+)-(\d+) of (\d+)\.h5", part.describe())
        samples = [(int(shard), row) for first, last, shard in named for row in range(int(first), int(last) + 1)]
        assert samples == list(zip(part.shards, part.rows, strict=True))


@given(counts, st.integers(1, 100), st.integers(1, 9), st.integers(2, 8))
def test_steps_and_groups_do_not_depend_on_the_ranks(counts, batch_size, streams, size):
    """N ranks together work the same groups in the same steps as one rank."""
    loader = Loader(counts, batch_size=batch_size, streams=streams, seed=1)
    assert ids(loader, counts, 2, size) == ids(loader, counts, 2, 1)


@given(counts, st.integers(1, 100), st.integers(1, 9))
def test_steps_are_full_but_the_last(counts, batch_size, streams):
    """Every step has the batch size, the last one what is left, in groups of at most 16 that are as few as possible."""
    loader = Loader(counts, batch_size=batch_size, streams=streams, seed=0)
    sizes = [sum(map(len, step)) for step in ids(loader, counts, 1, 1)]
    groups = [len(step) for step in ids(loader, counts, 1, 1)]
    assert sizes[:-1] == [batch_size] * (loader.steps - 1)
    assert sum(sizes) == sum(counts)
    assert groups == [-(-size // GROUP_SIZE) for size in sizes]


@given(st.integers(0, 5000), st.integers(1, 64))
def test_deal_differs_by_at_most_one_group(samples, streams):
    """No stream gets more than one group more than another."""
    dealt = deal(samples, streams)
    groups = [-(-n // GROUP_SIZE) for n in dealt]
    assert sum(dealt) == samples
    assert max(groups) - min(groups) <= 1


def test_one_stream_with_the_shards_size_is_one_shard_a_step():
    """With one stream and shards as large as the batch, a step is one shard, as in the original program."""
    loader = Loader([500, 500, 500], batch_size=500, streams=1, seed=3)
    order = loader.order(1)
    for step in range(3):
        assert set(loader.part(1, step).shards) == {order[step]}


def test_ranks_read_their_own_shards():
    """With as many streams as ranks, two ranks share a shard only where a stream was cut inside it."""
    loader = Loader([64] * 8, batch_size=64, streams=4, seed=0)
    shards = [{int(s) for step in range(loader.steps) for s in loader.part(1, step, r, 4).shards} for r in range(4)]
    assert sorted(s for own in shards for s in own) == list(range(8))


def test_the_order_changes_with_epoch_and_seed_only():
    """The same seed and epoch give the same order; another epoch or seed gives another."""
    loader = Loader([1] * 50, batch_size=7, streams=2, seed=5)
    same = Loader([1] * 50, batch_size=20, streams=8, seed=5)
    other = Loader([1] * 50, batch_size=7, streams=2, seed=6)
    assert loader.order(1).tolist() == same.order(1).tolist()
    assert loader.order(1).tolist() != loader.order(2).tolist()
    assert loader.order(1).tolist() != other.order(1).tolist()


def test_a_rank_without_work_has_an_empty_part():
    """Ranks beyond the streams get parts without samples, so that they still join every step."""
    part = Loader([40], batch_size=40, streams=2, seed=0).part(1, 0, rank=2, size=3)
    assert part.shards.size == part.rows.size == 0
    assert part.group_starts.tolist() == [0]


@pytest.mark.parametrize(("counts", "batch", "streams"), [([], 5, 1), ([3, 0], 5, 1), ([3], 0, 1), ([3], 5, 0)])
def test_bad_sizes_are_refused(counts, batch, streams):
    """No shards, an empty shard, and sizes below one are usage errors."""
    with pytest.raises(UsageError):
        Loader(counts, batch_size=batch, streams=streams, seed=0)


def test_default_streams_keep_groups_full():
    """Eight streams, or as many as have a full group each."""
    assert [default_streams(n) for n in (1, 16, 50, 127, 128, 500)] == [1, 1, 3, 7, 8, 8]


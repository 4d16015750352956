"""The batch sampler: epochs, shares of ranks, exact resumption, few images."""

import pytest

from densessl.errors import InputError
from densessl.training.sampler import BatchSampler


def test_an_epoch_shows_every_image_at_most_once_and_drops_the_rest() -> None:
    sampler = BatchSampler(10, 3, 2, seed=0)
    batches = list(sampler)
    assert sampler.steps_per_epoch == 3
    assert len(sampler) == len(batches) == 6
    for epoch in range(2):
        keys = [key for batch in batches[3 * epoch : 3 * epoch + 3] for key in batch]
        assert len({key.index for key in keys}) == 9
        assert {key.epoch for key in keys} == {epoch}
        assert {key.seed for key in keys} == {0}


def test_epochs_and_seeds_are_shuffled_apart() -> None:
    batches = list(BatchSampler(8, 8, 2, seed=0))
    orders = [[key.index for key in batch] for batch in [*batches, *BatchSampler(8, 8, 1, seed=1)]]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


@pytest.mark.parametrize("first_step", range(7))
def test_resuming_goes_on_exactly(first_step: int) -> None:
    whole = list(BatchSampler(7, 3, 3, seed=5))
    rest = BatchSampler(7, 3, 3, seed=5, first_step=first_step)
    assert list(rest) == whole[first_step:]
    assert len(rest) == 6 - first_step
    assert list(rest) == whole[first_step:]  # a second pass is the same


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_partition_every_batch(world_size: int) -> None:
    whole = list(BatchSampler(13, 4, 2, seed=1))
    shares = [list(BatchSampler(13, 4, 2, seed=1, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert [key for part in parts for key in part] == batch  # gathered by rank they stand as in one process
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_fewer_images_than_a_batch_make_one_batch_of_all() -> None:
    sampler = BatchSampler(3, 64, 2, seed=0)
    assert (sampler.steps_per_epoch, sampler.images_per_step) == (1, 3)
    assert [sorted(key.index for key in batch) for batch in sampler] == [[0, 1, 2], [0, 1, 2]]


def test_no_epoch_has_no_batch() -> None:
    assert list(BatchSampler(5, 2, 0, seed=0)) == []


def test_more_processes_than_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"a batch of 2 images cannot be shared by 4 processes; raise"):
        BatchSampler(2, 64, 1, seed=0, world_size=4)

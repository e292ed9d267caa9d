"""Ranks and groups from pairs of front and back."""

from amodal_service.depth_order import depth_ranks, occlusion_groups


def test_fronts_come_before_backs_and_ties_go_to_the_lower_id() -> None:
    assert depth_ranks([1, 2, 3, 4], [(3, 1), (1, 2)]) == {3: 1, 1: 2, 2: 3, 4: 4}
    assert depth_ranks([5, 2], []) == {2: 1, 5: 2}


def test_a_circle_and_pairs_of_absent_objects_still_give_every_object_a_rank() -> None:
    ranks = depth_ranks([1, 2, 3], [(1, 2), (2, 3), (3, 1), (9, 1), (2, 2)])
    assert sorted(ranks.values()) == [1, 2, 3]


def test_objects_that_hide_each_other_share_a_group_and_others_have_none() -> None:
    groups = occlusion_groups([1, 2, 3, 4, 5], [(4, 2), (5, 3)])
    assert groups == {1: (0, 0), 4: (1, 1), 2: (1, 2), 5: (2, 1), 3: (2, 2)}


def test_a_chain_is_one_group() -> None:
    groups = occlusion_groups([1, 2, 3], [(2, 1), (1, 3)])
    assert groups == {2: (1, 1), 1: (1, 2), 3: (1, 3)}

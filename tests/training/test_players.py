import pytest
from ml_collections import ConfigDict

from jaxgen.config import default, player
from jaxgen.errors import InputError
from jaxgen.families.base import Data, Family
from jaxgen.training import players

FAMILY = Family("toy", ("encoder", "decoder", "critic"), Data((2,)), None, None, None)
TERMS = dict(kl=dict())


def config(order=(), simultaneous=False, **specs):
    made = default()
    made.train.steps = 100
    made.order, made.simultaneous = order, simultaneous
    made.players = ConfigDict(
        {name: player(TERMS, **{"learning_rate": 0.1, **spec}) for name, spec in specs.items()}
    )
    return made


def build(*arguments, **keywords):
    return players.build(config(*arguments, **keywords), FAMILY)


def test_a_player_owns_the_network_of_its_name_or_those_it_lists():
    built = build(critic={}, model=dict(networks=("encoder", "decoder"), updates=2))
    assert {name: p.networks for name, p in built.items()} == {
        "critic": ("critic",),
        "model": ("encoder", "decoder"),
    }
    assert [row.name for row in built["model"].rows] == ["kl"]
    assert players.batches_per_step(built) == 2 and built["critic"].updates == 1


def test_the_order_is_alphabetical_unless_given():
    specs = dict(encoder={}, decoder={}, critic={})
    assert list(build(**specs)) == ["critic", "decoder", "encoder"]
    assert list(build(order=("decoder", "critic", "encoder"), **specs)) == [
        "decoder",
        "critic",
        "encoder",
    ]


def test_decay_reaches_its_end_after_all_of_the_players_updates():
    built = build(
        critic=dict(updates=3, decay="linear"),
        model=dict(networks=("encoder", "decoder"), decay="linear"),
    )
    assert float(built["critic"].learning_rate(150)) == pytest.approx(0.05)
    assert float(built["critic"].learning_rate(300)) == pytest.approx(0.0, abs=1e-9)
    assert float(built["model"].learning_rate(50)) == pytest.approx(0.05)


def test_a_config_may_schedule_a_weight():
    made = config(model=dict(networks=("encoder", "decoder", "critic")))
    made.players.model.terms.kl = dict(weight=dict(init=0.0, end=2.0, steps=10))
    (row,) = players.build(made, FAMILY)["model"].rows
    assert [float(row.weight(step)) for step in (0, 5, 20)] == pytest.approx([0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (
            dict(encoder={}, decoder={}, critik={}),
            r"players\.critik: no network 'critik': did you mean critic",
        ),
        (
            dict(encoder={}, decoder={}, critic=dict(networks=("critic", "encoder"))),
            "'encoder' belongs to both",
        ),
        (dict(encoder={}, decoder={}), "no player trains the network 'critic'"),
        (
            dict(encoder={}, decoder={}, critic=dict(updates=0)),
            r"config\.players\.critic\.updates must be an integer of at least 1",
        ),
        (dict(encoder={}, decoder={}, critic=dict(name="sdg")), "did you mean sgd"),
    ],
)
def test_bad_players_are_named(specs, message):
    with pytest.raises(InputError, match=message):
        build(**specs)


def test_simultaneous_players_make_one_update_each():
    with pytest.raises(InputError, match="simultaneous needs updates = 1"):
        build(
            simultaneous=True, model=dict(networks=("encoder", "decoder")), critic=dict(updates=2)
        )

"""A critic beside any wiring: hybrids are a function of families.

GAN, VAE-GAN, Flow-GAN and a diffusion model with an adversarial term are `with_critic` of a family
that names what it generates ("fake").
"""

from jaxgen.families.base import Family, Net, merge


def with_critic(family: Family, module) -> Family:
    """`family` with the network `critic` = `module`, which judges batch["x"] and outputs["fake"].

    Adds to the outputs what every adversarial term reads: real, real_score, fake_score,
    real_features, fake_features, `critic` (a closure: examples -> scores) and, where the family
    gives a `reconstruction`, reconstruction_features.

    Real and generated examples go through the critic apart: joining them would move data between
    devices. Its state is renewed on the real ones.
    """
    critic, conditions = Net("critic", module), family.data.conditions

    def init(key, batch):
        own = critic.init(key, batch["x"], conditions.of(batch))
        return merge(family.init(key, batch), own)

    def forward(variables, batch, call):
        outputs, state = family.forward(variables, batch, call)
        condition = conditions.of(batch)

        def judge(x, use):
            return critic(variables, x, condition, call=call, use=use)

        (real_score, real_features), renewed = critic.update(
            variables, batch["x"], condition, call=call, use="real"
        )
        fake_score, fake_features = judge(outputs["fake"], "fake")
        judged = {
            "real": batch["x"],
            "real_score": real_score,
            "fake_score": fake_score,
            "real_features": real_features,
            "fake_features": fake_features,
            "critic": lambda x: judge(x, "penalty")[0],
        }
        if "reconstruction" in outputs:
            features = judge(outputs["reconstruction"], "reconstruction")[1]
            judged["reconstruction_features"] = features
        if "critic" in renewed:
            state = {**state, "critic": renewed["critic"]}
        return {**outputs, **judged}, state

    return family._replace(
        name=f"{family.name} with critic",
        networks=(*family.networks, "critic"),
        init=init,
        forward=forward,
        recomputed=(*family.recomputed, *(("critic",) if critic.recomputed else ())),
    )

"""DiT-XL/2 (Peebles & Xie 2023) on 32x32x4 latents: 675M parameters, adaLN-Zero, classes, the linear noise schedule.

    jaxgen train --config=configs/latents/dit_xl.py --workdir=runs/dit_xl --config.data.source=npz:latents.npz \
        --config.parallel.fsdp=-1
"""
from jaxgen.config import default, player, smoke
from jaxgen.networks.dit import dit_size


def get_config(mode: str = ""):
    config = default()
    config.name = "DiT-XL/2"
    config.family = "diffusion"
    config.conditional = True
    config.data.update(source="synthetic", image_shape=(32, 32, 4), num_classes=1000)
    config.model.update(
        schedule=dict(name="linear"), prediction="noise", label_dropout=0.1, denoiser=dict(name="dit", **dit_size("XL/2"))
    )
    config.players.denoiser = player(terms=dict(denoising=dict()), name="adamw", learning_rate=1e-4)
    config.ema.rates = (0.9999,)
    config.train.update(steps=400_000, batch_size=256)
    if mode == "smoke":
        config.model.denoiser.update(width=64, depth=2, heads=4)
        smoke(config)
    return config

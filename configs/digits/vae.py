"""VAE on 8x8 digits: multilayer perceptrons, 5 latents, Gaussian pixels with one learned scale, KL
weight 2.

    jaxgen train --config=configs/digits/vae.py --workdir=runs/digits_vae

Expected: confident share 77.0 % (83 % of that of real images), coverage 82.1 %, after 8 s of
training on 2 CPU cores. `make demo` trains and measures it; the record is
benchmarks/results/trilemma_digits.json."""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "VAE"
    config.family = "autoencoder"
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    mlp = dict(hidden=(256,) * 4, activation="silu")
    config.model.update(
        latent=5,
        likelihood=dict(name="gaussian", scale="global"),
        encoder=dict(name="mlp_encoder", **mlp),
        decoder=dict(name="mlp_decoder", **mlp),
    )
    config.players.model = player(
        networks=("encoder", "decoder"),
        terms=dict(reconstruction=dict(), kl=dict(weight=2.0)),
        learning_rate=1e-3,
        warmup=100,
        decay="cosine",
    )
    config.train.update(
        steps=2_500, batch_size=64, log_every=50, eval_every=500, sample_every=2_500
    )
    config.checkpoint.update(every=500, best="validation/model/loss")
    config.sample.batch_size = 500
    return smoke(config) if mode == "smoke" else config

"""VAE on MNIST: two hidden layers of 300, 40 latents, dynamically binarised pixels (the setting of
Kingma & Welling 2014).

    jaxgen train    --config=configs/mnist/vae.py --workdir=runs/mnist_vae
    --config.data.data_dir=... jaxgen evaluate --workdir=runs/mnist_vae
    [--config.evaluation.log_prob.num_samples=1]

Expected on the 10,000 test images: negative ELBO (one sample) 94.1 nats; by the 5000-sample
importance-weighted bound (Burda et al. 2016) a negative log-likelihood of 89.0 nats. 5 minutes of
training on 2 busy CPU cores, and as long for the bound.
Records: benchmarks/results/mnist_vae_elbo.json, mnist_vae.json.
"""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "VAE"
    config.family = "autoencoder"
    config.data.update(
        source="tfds:mnist",
        image_shape=(28, 28, 1),
        num_classes=10,
        train="train[:55000]",
        validation="train[55000:]",
    )
    config.model.update(
        latent=40,
        likelihood=dict(name="bernoulli", binarization="dynamic"),
        encoder=dict(name="mlp_encoder", hidden=(300, 300)),
        decoder=dict(name="mlp_decoder", hidden=(300, 300)),
    )
    config.players.model = player(
        networks=("encoder", "decoder"),
        terms=dict(reconstruction=dict(), kl=dict(weight=1.0)),
        learning_rate=1e-3,
        decay="cosine",
    )
    config.train.update(
        steps=60_000, batch_size=100, log_every=500, eval_every=5_000, sample_every=20_000
    )
    config.checkpoint.update(every=5_000, best="validation/model/loss")
    config.evaluation.update(num=10_000, log_prob_images=10_000, log_prob=dict(num_samples=5000))
    if mode == "smoke":
        config.evaluation.log_prob.num_samples = 10
        smoke(config)
    return config

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from ml_collections import ConfigDict

from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.experiments.images.run import load_data
from ocsvm_jax.methods import METHODS

ROOT = Path(__file__).parents[2]
# Those of brains are another experiment's, see tests/brain/test_brain_check.py.
CARDS = sorted(p for p in (ROOT / "configs").glob("*.py") if not p.stem.startswith("brain"))


def card(path):
    return runpy.run_path(str(path))["get_config"]()


@pytest.fixture(autouse=True)
def root_on_the_path(monkeypatch):
    """Cards import one another from the root, where train.py lies and Python looks first."""
    monkeypatch.syspath_prepend(ROOT)


@pytest.fixture
def config():
    """As a run uses it: with the fields of its method, all set."""
    return experiment.resolved(card(ROOT / "configs" / "digits.py"))


def contents(directory):
    return {
        str(p.relative_to(directory)): p.read_bytes() if p.is_file() else None
        for p in directory.rglob("*")
    }


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_cards(path):
    """Every card can be trained with, names its command, and survives config.json."""
    assert f"python train.py --config=configs/{path.name}" in path.read_text()
    config = card(path)
    experiment.check(config)
    experiment.build_method(config)
    config = experiment.resolved(config)
    assert experiment.plain(ConfigDict(experiment.plain(config))) == experiment.plain(config)


# Where it is not the card's, a method that has the field.
METHOD_OF = {
    "method.kl_weight": "vae",
    "method.similarity_weight": "sae",
    "method.similarity": "sae",
    "method.reconstruction_weight": "dspsvdd",
    "method.vae_weight": "dvaesvdd",
    "method.pretrain": "deep_svdd",
}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("method.name", "ogea", r"method.name is 'ogea'; the methods are \['ae', .*mean 'ogae'"),
        ("method.name", "xyz", r"the methods are .*\]\.$"),
        ("method.nu", 0.0, r"method.nu is 0.0; it must lie in \(0, 1\]"),
        ("method.nu", float("nan"), "method.nu is nan"),
        ("final.nu", 1.01, r"final.nu is 1.01"),
        ("method.gamma", "skale", "method.gamma is 'skale'; it must be a positive number"),
        ("final.gamma", 0, "final.gamma is 0"),
        ("final.gamma", float("inf"), "final.gamma is inf"),
        ("method.guidance_weight", -1.0, "method.guidance_weight is -1.0"),
        ("method.guidance_weight", float("nan"), "method.guidance_weight is nan"),
        ("method.schedule", "twophase", "schedule is 'twophase'"),
        ("method.kl_weight", -0.1, "method.kl_weight is -0.1; it must be finite, at least 0"),
        ("method.similarity_weight", float("inf"), "method.similarity_weight is inf"),
        ("method.reconstruction_weight", float("nan"), "method.reconstruction_weight is nan"),
        ("method.vae_weight", -1.0, "method.vae_weight is -1.0"),
        ("method.similarity", "cosin", r"similarity is 'cosin'; .*\('cosine', .*mean 'cosine'"),
        (
            "method.pretrain",
            1.0,
            r"method.pretrain is 1.0; it must be a share of the epochs in \[0, 1\)",
        ),
        ("method.pretrain", -0.1, "method.pretrain is -0.1"),
        ("method.pretrain", float("nan"), "method.pretrain is nan"),
        ("method.betas", (1.0, -0.5), r"method.betas is \(1.0, -0.5\)"),
        ("method.betas", (1.0, 0.5, 0.5), "it must be two finite numbers"),
        ("method.last_m", 0, "method.last_m is 0; it must be at least 1"),
        ("method.kernel", "lineal", r"method.kernel is 'lineal'; .* mean 'linear'"),
        ("method.kernel", "linear", "method.standardize is True; with the kernel 'linear'"),
        ("final.kernel", "cubic", r"final.kernel is 'cubic'; it is one of \('rbf', 'lapl"),
        ("method.latent_dim", 0, "method.latent_dim is 0"),
        ("train.batch_size", 51, "train.batch_size is 51; guidance splits a batch into halves"),
        ("train.batch_size", 0, "train.batch_size is 0"),
        ("train.epochs", 0, "train.epochs is 0"),
        ("train.checkpoint_every", 0, "train.checkpoint_every is 0"),
        ("train.patience", -1, "train.patience is -1; it must be at least 0"),
        ("train.held_out", 1.0, "train.held_out is 1.0; it must be a share"),
        ("train.learning_rate", 0.0, "train.learning_rate is 0.0"),
        ("train.learning_rate", float("inf"), "train.learning_rate is inf"),
        ("eval.resamples", 0, "eval.resamples is 0"),
        ("seed", -1, "seed is -1"),
        ("seed", 2**31, "seed is 2147483648"),
    ],
)
def test_check(monkeypatch, field, value, message):
    # Outside of this suite nobody checks annotations.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    config = card(ROOT / "configs" / "digits.py")
    experiment.check(config)
    with config.ignore_type():
        config.method.name = METHOD_OF.get(field, config.method.name)
        config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        experiment.check(config)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_every_card_has_the_settings_of_every_method(path, name):
    """Another method is one field away, and a state can be built of it."""
    config = card(path)
    config.method.name = name
    experiment.check(config)
    method = experiment.build_method(config)
    images = jax.ShapeDtypeStruct((4, 28, 28, 1), jnp.float32)
    state = jax.eval_shape(method.init, images, jax.random.key(0))
    assert jax.eval_shape(method.encode, state, images).shape == (4, config.method.latent_dim)


@pytest.mark.parametrize("name", METHODS)
def test_fields_of_the_chosen_method_alone(name):
    """Those left unset have the defaults of the method's function."""
    config = card(ROOT / "configs" / "digits.py")
    config.method.name = name
    resolved = experiment.resolved(config)
    own = METHODS[name].fields
    assert resolved.method.to_dict() == {"name": name, "latent_dim": 32, **own}
    assert experiment.resolved(resolved) == resolved
    field, default = next(iter(own.items()), (None, None))
    if isinstance(default, float):
        config.method[field] = default / 2
        assert experiment.resolved(config).method[field] == default / 2


def test_a_field_of_another_method_is_refused():
    config = card(ROOT / "configs" / "digits.py")
    config.method.kl_weight = 5.0
    message = r"method\.kl_weight is no field of ogae, but of vae, dvaesvdd\..*: guidance_weight,"
    for function in (experiment.check, experiment.build_method, experiment.resolved):
        with pytest.raises(ValueError, match=message):
            function(config)
    config.method.name = "vae"
    assert experiment.resolved(config).method.kl_weight == 5.0


@pytest.mark.parametrize("gamma", ["scale", "auto", 1, 0.5])
def test_gammas(gamma):
    config = card(ROOT / "configs" / "digits.py")
    config.method.gamma = config.final.gamma = gamma
    experiment.check(config)


def test_linear_kernels():
    config = card(ROOT / "configs" / "digits.py")
    config.method.kernel = config.final.kernel = "linear"
    config.method.standardize = False
    experiment.check(config)
    config.final.gamma = 0.5
    with pytest.raises(ValueError, match=r"^final\.gamma is 0\.5; .* unset \(0\.01\), or choose"):
        experiment.check(config)
    config.final.gamma, config.method.gamma = 0.01, 0.5
    with pytest.raises(
        ValueError, match=r"^method\.gamma is 0\.5; the kernel 'linear' has no gamma"
    ):
        experiment.check(config)


def test_too_few_images(config):
    config.train.batch_size = 400
    with pytest.raises(ValueError, match=r"348 images to train on and 39 held out, too few for"):
        load_data(config)


def test_field_names(config):
    names = experiment.field_names(config)
    assert {"seed", "data.dir", "method.betas"} <= set(names)
    assert "train" not in names

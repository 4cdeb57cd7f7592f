from ocsvm_jax.suggestions import did_you_mean, unknown


def test_did_you_mean():
    assert did_you_mean("epoch", ["epochs", "nu"]) == " Did you mean 'epochs'?"
    assert did_you_mean("zzz", ["epochs", "nu"]) == ""


def test_an_unknown_name_is_answered_with_what_there_is():
    message = unknown("protocol", "leakfree", ["paper", "leak_free"])
    assert message == (
        "unknown protocol 'leakfree'. Did you mean 'leak_free'? Available: paper, leak_free."
    )

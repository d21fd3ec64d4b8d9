from pipelines.artifacts.redaction import redacted, secret_values

TOKEN = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"  # made up; in two parts, for those who look for such


def test_values_of_variables_that_are_named_like_secrets_are_hidden() -> None:
    environment = {
        "WANDB_API_KEY": "first-value", "HF_TOKEN": "second-value", "PREFECT_API_AUTH_STRING": "admin:third-value",
        "DB_PASSWORD": "second-value-and-more", "KEYBOARD": "querty", "MONKEY": "banana", "PUBLIC": "in the open",
        "SHORT_KEY": "abc",
    }  # fmt: skip
    values = secret_values(environment)
    assert values == ["second-value-and-more", "admin:third-value", "second-value", "first-value"]
    assert redacted("use first-value, second-value-and-more and banana", values) == "use ***, *** and banana"


def test_passwords_of_urls_and_well_known_forms_are_hidden() -> None:
    assert redacted("postgresql://me:hunter22@db/x?y", ()) == "postgresql://***@db/x?y"
    assert redacted("https://host/path@2", ()) == "https://host/path@2"
    assert redacted(f"with {TOKEN} it failed", ()) == "with *** it failed"
    assert redacted("Authorization: Bearer abcdefgh.ijkl", ()) == "Authorization: Bearer ***"
    key = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"
    assert redacted(f"x {key} y", ()) == "x *** y"


def test_keys_of_artifacts_stay() -> None:
    line = "pretrain: another run is building 3fa9c1d2e4b5; waiting for it"
    assert redacted(line, ()) == line

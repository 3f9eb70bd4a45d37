"""What `emogs info` tells."""

from __future__ import annotations

import json

import torch

import emogs
from emogs.info import info, main


def test_tells_version_backends_and_instruction_set():
    facts = info()
    assert facts["version"] == emogs.__version__
    assert facts["backends"][0] == "cpu"
    assert facts["instruction_set"] in facts["instruction_sets"]
    assert facts["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(facts)) == facts


def test_prints_every_fact(capsys):
    main()
    printed = capsys.readouterr().out
    for name in info():
        assert name.replace("_", " ") in printed

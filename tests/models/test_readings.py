"""What docs/readings.md declares of equations and tables is what the code does."""

import pytest
import torch

from rirn import create_model
from rirn.evaluation.paper import TABLES, time_ratio
from rirn.nn import ATB


@torch.no_grad()
def test_only_the_gate_of_the_present_can_be_raised_above_one():
    for bound in (1.0, 2.0):
        atb = ATB(4, max_weight=bound)
        for branch in (atb.branch_prev, atb.branch_cur):
            torch.nn.init.constant_(branch.conv2.bias, 50)  # both gates at their bounds
        prev, cur = atb.maps(f_prev=torch.zeros(1, 4, 5, 6), f_cur=torch.zeros(1, 4, 5, 6))
        assert prev.max() == 1 and cur.max() == bound


def test_published_heads_read_no_hidden_state_and_fusing_layers_all_that_is_remembered():
    for base in ("ifi-rnn", "strcnn", "stfan", "rdbn", "mmp-rnn"):
        assert "hidden" not in create_model(base, width=0.2).reads
    assert create_model("ifi-rnn+control", width=0.2).reads == ["features", "hidden"]
    assert create_model("ifi-rnn+rirn", width=0.2).reads == ["features", "hidden", "inner", "blended"]


@pytest.mark.parametrize("addition", ["gsa", "irm", "atb", "rirn"])
@torch.no_grad()
def test_what_is_added_in_front_of_the_head_leaves_the_recurrence_alone(addition):
    plain, other = create_model("rdbn", width=0.2), create_model(f"rdbn+{addition}", width=0.2)
    shared = {name: t for name, t in plain.base.state_dict().items() if not name.startswith("decoder.")}
    other.base.load_state_dict(shared, strict=False)
    clip = torch.rand(1, 5, 3, 16, 16)
    states = [model(clip, return_state=True)[1].base for model in (plain, other)]
    torch.testing.assert_close(*states)


def test_the_times_of_tables_1_and_3_contradict_each_other():
    one, three = ({row.model: row.seconds for row in TABLES[n].rows} for n in (1, 3))
    assert one["rdbn+irm"] == 0.161 and three["rdbn+rirn"] == pytest.approx(0.117, abs=5e-4)
    assert one["rdbn"] == pytest.approx(three["rdbn"], abs=5e-4)
    assert time_ratio("rdbn+irm") == pytest.approx(0.161 / 0.095)

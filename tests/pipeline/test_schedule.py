from hypothesis import given
from hypothesis import strategies as st

from platformops.pipeline.plan import make_plan
from platformops.pipeline.schedule import LONGEST_REST_S, Schedule, rest_s
from tests.pipeline.test_plan import FixedIdentity, dags


@given(dags(), st.randoms(use_true_random=False))
def test_whatever_ends_in_whatever_order_each_step_starts_once_after_its_parents(stages, luck):
    plan = make_plan("demo", stages, identity=FixedIdentity())
    schedule, out, done = Schedule(plan), [], []
    while len(done) < len(stages):
        while (step := schedule.pop()) is not None:
            assert set(step.stage.needs) <= set(done)
            out.append(step.stage.name)
        ended = out.pop(luck.randrange(len(out)))
        schedule.finish(ended)
        done.append(ended)
    assert schedule.pop() is None
    assert sorted(done) == sorted(stage.name for stage in stages)


@given(dags(), st.randoms(use_true_random=False))
def test_reopened_and_returned_steps_end_too(stages, luck):
    plan = make_plan("demo", stages, identity=FixedIdentity())
    schedule, done, out, turns = Schedule(plan), set(), [], 40
    while len(done) < len(stages):
        while (step := schedule.pop()) is not None:
            assert set(step.stage.needs) <= done
            assert step.stage.name not in done
            out.append(step.stage.name)
        turns -= 1
        name = out.pop(luck.randrange(len(out)))
        if turns > 0 and done and luck.random() < 0.3:
            parent = luck.choice(sorted(done))
            done.discard(parent)
            schedule.reopen(parent)
            schedule.put_back(name)
        elif turns > 0 and luck.random() < 0.2:
            schedule.put_back(name)
        elif all(parent in done for parent in next(s for s in stages if s.name == name).needs):
            schedule.finish(name)
            done.add(name)
        else:
            schedule.put_back(name)
    assert schedule.pop() is None


def test_rests_double_up_to_a_limit_and_are_the_same_on_every_machine():
    rests = [rest_s("f" * 64, attempt) for attempt in range(1, 12)]
    assert rests == [rest_s("f" * 64, attempt) for attempt in range(1, 12)]
    for attempt, rest in enumerate(rests):
        longest = min(2.0**attempt, LONGEST_REST_S)
        assert longest / 2 <= rest <= longest


def test_steps_that_fail_together_do_not_come_back_together():
    assert len({round(rest_s(f"{number}", 1), 3) for number in range(50)}) > 40

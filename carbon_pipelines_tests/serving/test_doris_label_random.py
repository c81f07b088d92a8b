"""Whatever is lost or told late: never applied twice, never called applied when it was not."""

import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_pipelines.errors import LoadRefusedError, LoadUnfinishedError, ServiceUnavailableError
from carbon_pipelines.serving.doris_http import DorisHttp
from carbon_pipelines.serving.doris_load import Load, StreamLoader
from carbon_pipelines.serving.doris_settings import DorisSettings
from carbon_pipelines.serving.http_exchange import Answer, Body, Request
from carbon_pipelines_tests.serving.stub import FakeTime

# What becomes of a sending in Doris, and what of its answer.
FATES = ("visible", "committed", "never", "aborted", "refused", "running", "late")
ANSWERS = ("told", "lost", "429", "503")
ROWS = 3


class Model:
    """Labels as Doris keeps them: one transaction each, ended for good, applied when visible."""

    def __init__(self, sendings: list[tuple[str, str, int]], questions: list[str]) -> None:
        self.sendings, self.questions = sendings, questions
        self.states: dict[str, str] = {}
        self.waits: dict[str, int] = {}
        self.applied: list[str] = []
        self.late: list[str] = []

    def exchange(self, request: Request) -> Answer:
        return self.put(request) if request.method == "PUT" else self.state(request)

    def step(self) -> None:
        """Time passes: what is under way gets on, and what was delayed arrives."""
        for label in self.late[:]:
            self.late.remove(label)
            if label not in self.states:
                self.become_visible(label)
        for label, left in list(self.waits.items()):
            self.waits[label] = left - 1
            if left <= 1:
                del self.waits[label]
                self.become_visible(label)

    def become_visible(self, label: str) -> None:
        self.states[label] = "VISIBLE"
        self.applied.append(label)

    def state(self, request: Request) -> Answer:
        self.step()
        how = self.questions.pop() if self.questions else "told"
        label = request.target.rpartition("=")[2]
        if how == "lost":
            raise ConnectionResetError
        if how != "told":
            return Answer(int(how), {}, b"")
        return self.answer(200, {"code": 0, "data": self.states.get(label, "UNKNOWN")})

    def put(self, request: Request) -> Answer:
        label = request.headers["label"]
        fate, how, wait = self.sendings.pop() if self.sendings else ("visible", "told", 0)
        told = self.take(label, fate, wait)
        if how == "lost" or told is None:
            raise ConnectionResetError
        return self.answer(200, told) if how == "told" else Answer(int(how), {}, b"")

    def take(self, label: str, fate: str, wait: int) -> dict[str, object] | None:
        if label in self.states:
            running = self.states[label] == "PREPARE"
            known = "RUNNING" if running else "FINISHED"
            return {"Status": "Label Already Exists", "ExistingJobStatus": known}
        if fate == "visible":
            self.become_visible(label)
            return {"Status": "Success", "NumberLoadedRows": ROWS}
        if fate in ("committed", "running"):
            self.states[label] = "COMMITTED" if fate == "committed" else "PREPARE"
            self.waits[label] = wait
            return {"Status": "Publish Timeout"} if fate == "committed" else None
        if fate == "late":
            self.late.append(label)
            return None
        if fate == "aborted":
            self.states[label] = "ABORTED"
            return {"Status": "Fail", "Message": "given up"}
        if fate == "refused":
            self.states[label] = "ABORTED"
            return {"Status": "Fail", "Message": "too many filtered", "NumberFilteredRows": 1}
        return None

    def answer(self, status: int, document: object) -> Answer:
        return Answer(status, {}, json.dumps(document).encode())


@settings(max_examples=200, deadline=None)
@given(
    sendings=st.lists(
        st.tuples(st.sampled_from(FATES), st.sampled_from(ANSWERS), st.integers(1, 40)), max_size=8
    ),
    questions=st.lists(st.sampled_from(("told", "told", "lost", "503")), max_size=12),
    runs=st.integers(1, 3),
)
def test_rows_are_applied_at_most_once_and_called_applied_only_if_they_are(
    sendings: list[tuple[str, str, int]], questions: list[str], runs: int
) -> None:
    model, time = Model(sendings, questions), FakeTime()
    loader = StreamLoader(DorisHttp(DorisSettings("doris", "u"), model.exchange))
    for _ in range(runs):
        load = Load("mart", "prices", "carbon_x", ROWS, Body(io.BytesIO(), 0))
        try:
            label = loader.load(load, time.clock().deadline(30))
        except (LoadRefusedError, LoadUnfinishedError, ServiceUnavailableError):
            assert len(model.applied) <= 1
        else:
            assert model.applied == [label]
            assert model.states[label] == "VISIBLE"
    for _ in range(50):
        model.step()
    assert len(model.applied) <= 1

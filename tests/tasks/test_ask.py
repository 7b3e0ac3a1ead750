"""tasks/ask.py: what is made of several replies."""

from smolcli.tasks.ask import Ask
from smolcli.types import Finish, Reply


def test_an_empty_object_of_a_schema_is_an_answer_too() -> None:
    """As where --schema has optional fields alone, and the model fills in none."""
    replies = [Reply("{}", Finish("stop"), {}), Reply('{"total":3}', Finish("stop"), {"total": 3})]
    assert Ask("One?", also=("Two?",)).answer(replies).data == [
        {"question": "One?", "answer": {}},
        {"question": "Two?", "answer": {"total": 3}},
    ]

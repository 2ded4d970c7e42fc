from ray._private import worker

from platformops.on_ray.session import keep_stdout


class Subscriber:
    """Tells one error, as Ray's own does when a node dies; then its connection is gone."""

    def __init__(self):
        self.told = [{"job_id": None, "error_message": "The node x has been marked dead"}]

    def subscribe(self):
        pass

    def poll(self):
        if not self.told:
            raise ConnectionError("the head is gone")
        return None, self.told.pop()


class Driver:
    current_job_id = worker.JobID.nil()

    def __init__(self):
        self.gcs_error_subscriber = Subscriber()


def test_what_ray_says_of_a_dead_node_is_not_printed_between_the_lines_of_a_verb(capsys, monkeypatch):
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    keep_stdout()
    driver = Driver()
    worker.listen_error_messages(driver, worker.threading.Event())
    assert driver.gcs_error_subscriber.told == []
    assert capsys.readouterr().out == ""

"""mosec at the best setting found: 2 workers, batches of up to 4 requests, 1 ms."""

from mosec import Server, Worker
from ranker import Ranker, decode

WORKERS = 2


class RankWorker(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._ranker = Ranker()

    def deserialize(self, data):
        return decode(data)

    def forward(self, data):
        return self._ranker.rank(data)

    def serialize(self, data):
        return data


if __name__ == "__main__":
    server = Server()
    server.append_worker(RankWorker, num=WORKERS, max_batch_size=4, max_wait_time=1)
    server.run()

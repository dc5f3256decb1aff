"""A script whose threads all write long log lines at the same time."""

import logging
import threading

LINES = 50
LENGTH = 20_000


def talk(letter: str) -> None:
    for _ in range(LINES):
        logging.getLogger("chatter").info(letter * LENGTH)


def main() -> None:
    threads = [threading.Thread(target=talk, args=(letter,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()

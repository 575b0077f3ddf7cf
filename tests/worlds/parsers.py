"""All that reads an operator's or a stranger's bytes."""

from worlds.parser import Parser
from worlds.parsers_of_answers import ANSWERED
from worlds.parsers_of_files import FILES
from worlds.parsers_of_logs import LOGS

PARSERS: dict[str, Parser] = {one.name: one for one in (*FILES, *ANSWERED, *LOGS)}

"""Ways in: what people have when it is too late to observe, as observations that say that they were imported.

files      opens files, writes what is new to a store, and says what it did
formats    which formats there are, and which one a file is in
lines      lines of text: what containers put before them, and instants in all the ways logs write them
said       what a line says: the values that parsers make and rows are made of
requests   one HTTP request as a log line tells it, and what that proves
api_log, livekit_log, access_log, transcript, console, har    one parser a format; pure
clocks     how far the clocks of the sources are apart, by what two of them saw
rows       from what was said to observations: ids, traces, marks
words      what an import did, for people
"""

"""Live streams: frames in over a websocket, whole silhouettes out (docs/protocol.md).

routes/streams.py  REST: open, list, look at, kill; the websocket
connection.py      one websocket: reads, checks, writes; close codes
hub.py             all streams of this process: connected, left, drained, killed
placement.py       opened and resumed: on which replica, with a ticket
upkeep.py          again and again: stored, closed when idle, shown to other replicas, swept
archive.py         their snapshots: when due, written, recalled
ledger.py          what is still to be written of them, together
roster.py          those that are held here, and the memory promised to them
admission.py       what one costs in memory, and may ask for and send
finders.py         the sources of visible masks that they share
session.py         one stream: mailbox, credits, counters, results that are kept
scheduler.py       which frames are worked on next, over all streams
frame_work.py      one frame: decode, masks, model, encode
memory.py          what is remembered of a stream, and its snapshot
store.py           streams and replicas in the database
"""

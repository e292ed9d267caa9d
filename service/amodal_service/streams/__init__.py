"""Live streams: frames in over a websocket, whole silhouettes out (docs/protocol.md).

routes/streams.py  REST: open, list, look at, kill; the websocket
connection.py      one websocket: reads, checks, writes; close codes
hub.py             all streams of this process: admission, resume, drain
session.py         one stream: mailbox, credits, counters, results that are kept
scheduler.py       which frames are worked on next, over all streams
frame_work.py      one frame: decode, masks, model, encode
memory.py          what is remembered of a stream, and its snapshot
store.py           streams and replicas in the database
"""

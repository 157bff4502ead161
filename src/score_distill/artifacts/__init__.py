"""Where everything a run makes is kept, and where what it reads comes from.

store (protocol, journals) <- folder, s3 (with s3_errors, s3_journal); blobs and steps lay a run out on any store; lock
keeps two runners apart; places, models and data turn the URIs of a manifest into folders and lines.
"""

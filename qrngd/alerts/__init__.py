"""Alerts without Prometheus (`proto/spec/monitoring.md`): a process of its own looks at status pages of QRNG servers and tells receivers.

    page ─ picture ─▶ core: step(state, event, now) ─ Raise, Amend, Resolve ─▶ outbox ─ body ─▶ receiver      one outbox a receiver

Pure are `alert`, `picture`, `growth`, `conditions`, `core`, `outbox`; `bodies` is what receivers get, `exchange` speaks HTTP, `pusher` has
the tasks. The server itself has no network and tells nobody. Nothing is kept on disk: what is wrong shows in the next picture, so it is
told again after a restart; and what is over stops being told, so a receiver forgets it when its time has run out.
"""

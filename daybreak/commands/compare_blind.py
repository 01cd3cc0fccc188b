"""`daybreak compare-blind`: gathers pictures, serves voters, tells results."""

from __future__ import annotations

import math
import socket
from dataclasses import replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from daybreak.commands.listen import listen
from daybreak.config import ConfigError
from daybreak.config.fields import as_words
from daybreak.config.values import shown
from daybreak.tables import print_facts, print_table
from daybreak.vote import study as studies
from daybreak.vote.contestants import Contestant, contestants_of, read_prompts
from daybreak.vote.pairs import pairs_of_study, schedule
from daybreak.vote.results import QuestionResults, VoterSummary, results_of, voters_of, write_csv
from daybreak.vote.settings import QUESTIONS, Address, BlindSettings
from daybreak.vote.study import Study
from daybreak.vote.verdict import doubt, verdict, without_doubted
from daybreak.vote.votes import Votes


def run_compare_blind(console: Console, contestants: list[Path], settings: BlindSettings) -> None:
    """Serves a new study, or the one in --out if there is one already; with --results, tells its figures instead.

    Raises ConfigError for whatever cannot be compared, continued or served.
    """
    s = settings
    if s.results is not None:
        if contestants or s.out is not None:
            raise ConfigError("--results DIR stands alone: the folder knows its contestants")
        show_results(console, s.results)
        return
    them = contestants_of(contestants, s.lora) if contestants else []
    folder = s.out or Path("runs") / f"blind-{datetime.now():%Y%m%d-%H%M%S}"
    if (folder / "study.json").is_file():
        study = _same_study(folder, them, s)
    elif len(them) < 2:
        raise ConfigError(
            "say what to compare: daybreak compare-blind A B, a model alone, or --out DIR to go on with a comparison"
        )
    else:
        _need_server()
        questions = s.questions or ("overall",)
        study = studies.create(
            folder, them, s.prompts, questions, s.seed or 0, s.pairs, lambda line: _print(console, line)
        )
    votes = Votes(folder / "votes.sqlite", study.questions)
    shown = pairs_of_study(len(study.prompts), len(study.contestants), study.limit, study.seed)
    for number in range(1, s.voters + 1):
        votes.add_voter(number, schedule(shown, study.seed, number))
    _serve(console, folder, study, votes, s.address)


def _same_study(folder: Path, them: list[Contestant], s: BlindSettings) -> Study:
    """The study in `folder`; ConfigError where the command says anything else of it than when it was made."""
    study = studies.load(folder)
    given = (
        ("contestants", study.paths, tuple(c.where for c in them)),
        ("--questions", study.questions, s.questions),
        ("--seed", study.seed, s.seed),
        ("--pairs", study.limit or "all", s.pairs),
    )
    for name, there, here in given:
        if here not in (None, ()) and there != here:
            raise ConfigError(f"--out {folder} holds another comparison ({name}: {shown(there)}, not {shown(here)})")
    if s.prompts is not None and not set(study.prompts) <= set(read_prompts(s.prompts)):
        raise ConfigError(f"--out {folder} holds another comparison (its prompts are not those of {s.prompts})")
    return study


def _need_server() -> None:
    for name in ("fastapi", "uvicorn"):
        if find_spec(name) is None:  # not imported: what else is wrong is to be told at once
            raise ConfigError(f"the voters' page needs {name}: pip install 'daybreak[serve]'")


def _serve(console: Console, folder: Path, study: Study, votes: Votes, address: Address) -> None:
    _need_server()
    import uvicorn

    from daybreak.vote.app import make_app

    host, listening = address.host, listen(address.host, address.port)
    listening.listen(128)  # who follows a link as soon as it is printed waits, and is not turned away
    port = listening.getsockname()[1]
    shown_host = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    base = (address.url or f"http://{shown_host}:{port}").rstrip("/")
    everyone = votes.voters()
    asked = len(votes.pairs(everyone[0].number))
    _print(
        console,
        f"{' against '.join(study.contestants)}: {len(study.prompts)} prompts, {asked} pairs for each voter, "
        f"{'questions' if len(study.questions) > 1 else 'question'} {', '.join(study.questions)}",
    )
    for voter in everyone:
        done, total = votes.standing(voter.number).done, asked * len(study.questions)
        _print(console, f"  voter {voter.number}  {base}/v/{voter.token}/  {done} of {total} votes")
    _print(console, f"results, at any time:  daybreak compare-blind --results {folder}")
    # The links hold as long as the address does.
    again = " ".join(["daybreak compare-blind --out", str(folder), *as_words(replace(address, port=port))])
    _print(console, f"after a stop, go on:   {again}")
    config = uvicorn.Config(
        make_app(folder, study, votes), log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=3,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        votes.close()
    _print(console, "stopped; all votes are kept")


def show_results(console: Console, folder: Path) -> None:
    """Prints a study's figures; writes votes.csv, results.csv and report.html into its folder."""
    from daybreak.vote.report import write_report

    study = studies.load(folder)
    book = Votes(folder / "votes.sqlite", study.questions)
    votes = book.all()
    expected = {v.number: len(book.pairs(v.number)) * len(study.questions) for v in book.voters()}
    book.close()
    if not votes:
        raise ConfigError(f"{folder} holds no votes yet")
    results, voters = results_of(study, votes), voters_of(votes, expected)
    others = without_doubted(study, votes, voters)
    for r in results:
        if r.votes:
            _print_question(console, study, r, others.get(r.question))
    _print_voters(console, voters)
    try:
        votes_csv, results_csv = write_csv(folder, study, votes, results)
        report = write_report(folder, study, votes, results, voters)
    except OSError as e:
        raise ConfigError(f"{folder} cannot be written: {e.strerror or e}") from None
    files = (("report", report), ("figures", results_csv), ("votes", votes_csv))
    print_facts(console, [(name, str(path)) for name, path in files], "written", whole=True)


def _print_question(console: Console, study: Study, r: QuestionResults, without: str | None) -> None:
    names = study.contestants
    console.print(f"[bold]{r.question}: {QUESTIONS[r.question]}[/bold]", highlight=False)
    for sentence in filter(None, (verdict(study, r), without)):
        _print(console, sentence)
    duels = []
    for d in r.duels:
        low, high = f"{d.rate.low:.0%}", f"{d.rate.high:.0%}"
        rate = "–" if not d.rate.n else f"{d.rate.rate:.0%}"
        title = escape(f"{names[d.first]} against {names[d.second]}")
        cells = [title, str(d.wins), str(d.ties), str(d.losses), rate, f"{low} – {high}"]
        sure = d.rate.low > 0.5 or d.rate.high < 0.5
        duels.append([f"[bold]{cell}[/bold]" for cell in cells] if sure else cells)
    columns = ("", "won", "tied", "lost", "win rate", "95 %")
    print_table(console, columns, duels)
    ranks = []
    s = r.scores
    for k in sorted(range(len(names)), key=lambda k: -s.score[k]):
        t = r.totals[k]
        ranks.append([
            escape(names[k]), "–" if not t.n else f"{t.rate:.0%}", f"{t.low:.0%} – {t.high:.0%}",
            f"{s.score[k]:+.2f}", f"{s.low[k]:+.2f} to {s.high[k]:+.2f}",
        ])  # fmt: skip
    print_table(console, ("", "win rate", "95 %", "Bradley–Terry", "95 %"), ranks)
    a = r.agreement
    if a.things:
        _print(console, f"  voters agree on {a.observed:.0%} of {a.things} pairs; Fleiss' kappa {number(a.fleiss)}")
        for x, y, n, kappa in a.cohen:
            _print(console, f"  Cohen's kappa of voters {x} and {y}, {n} pairs: {number(kappa)}")
    console.print()


def _print_voters(console: Console, voters: list[VoterSummary]) -> None:
    rows = []
    for v in voters:
        if v.votes:
            rows.append([
                f"voter {v.voter}", f"{v.votes} of {v.expected}", f"{v.ties:.0%}", percent(v.left.rate),
                f"{v.left.low:.0%} – {v.left.high:.0%}", seconds(v.median_seconds),
            ])  # fmt: skip
        else:
            rows.append([f"voter {v.voter}", f"0 of {v.expected}", "", "", "", ""])
    print_table(console, ("", "votes", "ties", "left, of the rest", "95 %", "median time"), rows, "voters")
    for v in voters:
        if (why := doubt(v)) is not None:
            _print(console, f"  voter {v.voter}: {why}")


def number(value: float) -> str:
    """A kappa with two digits; a word where the votes give none."""
    return "undefined (everyone gave one and the same answer)" if math.isnan(value) else f"{value:.2f}"


def percent(value: float) -> str:
    """A share as percent; a dash for none."""
    return "–" if math.isnan(value) else f"{value:.0%}"


def seconds(value: float) -> str:
    """A time with one digit; a dash for none."""
    return "–" if math.isnan(value) else f"{value:.1f} s"


def _print(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)

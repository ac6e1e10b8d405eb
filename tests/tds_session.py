"""One login's session: what each statement of a batch does, and to which state."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import tds_packets as wire
from tds_describe import describe, expand_describe
from tds_packets import Command, Done, EnvChange, Token
from tds_rows import NoErrorToken
from tds_sender import Sender
from tds_settings import Answers, FaultList, SessionLog, Settings, Statement, as_list
from tds_sql import Call, SqlError, literal, parse_exec, split_statements, text_of
from tds_sqlite import Database
from tds_system import facts, install_system_tables
from tds_transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tds_answer import Answer
    from tds_packets import Reader
    from tds_results import Result
    from tds_rpc import Request
    from tds_sql import Token as SqlToken

_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "CREATE", "ALTER", "DROP", "GRANT"})
_LEVELS = {1: "READ UNCOMMITTED", 2: "READ COMMITTED", 3: "REPEATABLE READ", 4: "SERIALIZABLE", 5: "SNAPSHOT"}
_TM_BEGIN, _TM_COMMIT = 5, 7  # 2.2.6.9


class Session:
    """Executes batches and calls, and writes their answers."""

    def __init__(self, settings: Settings, answers: Answers, faults: FaultList, log: SessionLog, database: str) -> None:
        self.settings = settings
        self.log = log
        self.database = database
        self.answers = answers
        self.faults = faults
        self.sender = Sender(settings, faults, log)
        self.sqlite = Database(settings.sqlite, facts(self), settings.types, database)
        install_system_tables(self, self.sqlite)
        self._transactions = Transactions(settings, log, self.sqlite)
        self._variables: dict[str, Any] = {}
        self._queries = 0

    def close(self) -> None:
        self.sqlite.close()

    # --- requests ---

    def batch(self, sql: str, answer: Answer) -> None:
        """Answer an SQL batch (2.2.6.7)."""
        self._variables = {}
        self._guarded(answer, lambda: self._run_text(sql, {}, answer))
        answer.end()

    def rpc(self, calls: list[Request], answer: Answer) -> None:
        """Answer RPC requests (2.2.6.6)."""
        self._variables = {}
        for request in calls:
            named = {each.name.lower(): each.value for each in request.parameters if each.name}
            positional = tuple(each.value for each in request.parameters if not each.name)
            call = Call(re.sub(r"[\[\]]", "", request.procedure), named, positional)
            self._guarded(answer, lambda call=call: self._call(call, answer))
        answer.end()

    def transaction_request(self, reader: Reader, answer: Answer) -> None:
        """Answer a transaction manager request: begin, commit, roll back (2.2.6.9)."""
        reader.skip_all_headers()
        kind = reader.u16()
        begins = kind == _TM_BEGIN
        if not begins:
            word = "TM_COMMIT_XACT" if kind == _TM_COMMIT else "TM_ROLLBACK_XACT"
            self._guarded(answer, lambda: self._end_transaction(answer, word, commit=kind == _TM_COMMIT))
            reader.take(reader.u8())  # name
            begins = bool(reader) and bool(reader.u8() & 1)
        if begins:
            self.log.isolation = _LEVELS.get(reader.u8(), self.log.isolation)
            self._begin(answer, "TM_BEGIN_XACT")
        answer.end()

    def _guarded(self, answer: Answer, act: Callable[[], None]) -> None:
        """Turn an SqlError into ERROR and DONE; with XACT_ABORT, and after a deadlock, roll back."""
        depth = answer.in_procedure
        try:
            act()
        except SqlError as error:
            if self.log.statements and self.log.statements[-1].error is None:
                self.log.statements[-1].error = error.number
            if not isinstance(error, NoErrorToken):
                answer.error(error)
            if error.number == 1205 or self.log.options.get("XACT_ABORT") == "ON":
                self._transactions.leave(answer, commit=False)
            answer.done(Done.ERROR, command=Command.SELECT)
            while answer.in_procedure > depth:
                answer.in_procedure -= 1
                answer.done_procedure(Done.ERROR)

    # --- statements ---

    def _run_text(self, sql: str, params: Mapping[str, Any], answer: Answer) -> None:
        if self._registered(sql, params, answer):
            return
        for tokens in split_statements(sql):
            text = text_of(tokens, sql)
            if not self._registered(text, params, answer):
                self._statement(tokens, text, params, answer)

    def _registered(self, sql: str, params: Mapping[str, Any], answer: Answer) -> bool:
        found = self.answers.find(sql, params, self.log)
        if found is None:
            return False
        statement = self._note(sql, params)
        self._count_query(statement)
        for result in found:
            self.sender.send(result, statement, answer, self.database)
        return True

    def _note(self, sql: str, params: Mapping[str, Any]) -> Statement:
        statement = Statement(sql, dict(params), self.log.isolation, self.log.depth)
        self.log.statements.append(statement)
        return statement

    def _count_query(self, statement: Statement) -> None:
        """Give a statement that reads data its ordinal, and hold it to the isolation level."""
        self._queries += 1
        statement.query = self._queries
        self._transactions.check_snapshot(self.database)

    def _statement(self, tokens: list[SqlToken], text: str, params: Mapping[str, Any], answer: Answer) -> None:
        known = {**params, **self._variables}
        words = [token.upper for token in tokens[:2]]
        match words:
            case ["SELECT" | "WITH", *_]:
                self._select(tokens, text, known, answer)
            case ["BEGIN", "TRAN" | "TRANSACTION"]:
                self._begin(answer, text)
            case ["COMMIT" | "ROLLBACK" as word, *_]:
                self._end_transaction(answer, text, commit=word == "COMMIT")
            case ["EXEC" | "EXECUTE", *_]:
                self._call(parse_exec(tokens, known), answer)
            case ["BEGIN" | "END", *_]:  # a block: its statements run, its words do nothing
                if rest := tokens[1:]:
                    self._statement(rest, text[rest[0].start - tokens[0].start :], params, answer)
            case _ if tokens[0].text == "(":
                self._select(tokens, text, known, answer)
            case _:
                self._note(text, params)
                self._small_statement(tokens, text, known, answer)

    def _small_statement(self, tokens: list[SqlToken], text: str, known: Mapping[str, Any], answer: Answer) -> None:
        word = tokens[0].upper
        if word == "SET":
            self._set(tokens, known, answer)
        elif word == "DECLARE":
            self._declare(tokens[1:], known, answer)
        elif word == "IF":
            self._if(tokens, text, known, answer)
        elif word == "USE":
            self._use(tokens[1].name, answer)
        elif word == "PRINT":
            answer.token(wire.message(Token.INFO, 0, str(literal(tokens[1:], dict(known))), severity=0))
            answer.done()
        elif word in _WRITES:
            text = f'Failed to update database "{self.database}" because the database is read-only.'
            raise SqlError(3906, text)
        else:
            raise SqlError(102, f"Incorrect syntax near '{tokens[0].text}'. [{text[:60]}]", severity=15)

    def _set(self, tokens: list[SqlToken], known: Mapping[str, Any], answer: Answer) -> None:
        if tokens[1].kind == "variable":
            self._assign(tokens[1].text, tokens[3:], known, answer)
            return
        words = [token.text.upper() for token in tokens[1:]]
        if words[:3] == ["TRANSACTION", "ISOLATION", "LEVEL"]:
            self.log.isolation = " ".join(words[3:])
            self.log.options["TRANSACTION ISOLATION LEVEL"] = self.log.isolation
        else:
            for option in " ".join(words[:-1]).split(","):
                self.log.options[option.strip()] = words[-1]
                if option.strip() == "NOCOUNT":
                    self.sender.nocount = words[-1] == "ON"
        answer.done(command=Command.SET)

    def _declare(self, tokens: list[SqlToken], known: Mapping[str, Any], answer: Answer) -> None:
        """Declare one variable; without an assignment there is no DONE (2.2.7.6)."""
        texts = [token.text for token in tokens]
        if "=" in texts:
            self._assign(texts[0], tokens[texts.index("=") + 1 :], known, answer)
        else:
            self._variables[texts[0].lower()] = None

    def _assign(self, name: str, value: list[SqlToken], known: Mapping[str, Any], answer: Answer) -> None:
        """Assign; SQL Server ends it as a SELECT that counts one row."""
        self._variables[name.lower()] = literal(value, dict(known))
        self.sender.done(answer, 1)

    def _if(self, tokens: list[SqlToken], text: str, known: Mapping[str, Any], answer: Answer) -> None:
        starts = {"COMMIT", "ROLLBACK", "SELECT", "SET", "EXEC", "BEGIN", "PRINT"}
        at = next((index for index, token in enumerate(tokens) if index > 1 and token.upper in starts), None)
        if at is None:
            raise SqlError(102, "Incorrect syntax near 'IF'.", severity=15)
        if self.sqlite.scalar(tokens[1:at], known):
            self._statement(tokens[at:], text[tokens[at].start - tokens[0].start :], known, answer)
        else:
            answer.done()

    def _use(self, name: str, answer: Answer) -> None:
        known = self.settings.databases
        if known is not None and name not in known:
            text = f"Database '{name}' does not exist. Make sure that the name is entered correctly."
            raise SqlError(911, text)
        answer.token(wire.env_change(EnvChange.DATABASE, name, self.database))
        text = f"Changed database context to '{name}'."
        answer.token(wire.message(Token.INFO, 5701, text, severity=0, state=2))
        self.database = name
        answer.done()

    def _begin(self, answer: Answer, sql: str) -> None:
        self._note(sql, {})
        self._transactions.begin(answer)
        answer.done(command=Command.BEGIN_TRANSACTION)

    def _end_transaction(self, answer: Answer, sql: str, *, commit: bool) -> None:
        self._note(sql, {})
        self._transactions.end(answer, commit=commit)
        answer.done(command=Command.COMMIT if commit else Command.ROLLBACK)

    # --- queries and procedures ---

    def _select(self, tokens: list[SqlToken], text: str, params: Mapping[str, Any], answer: Answer) -> None:
        statement = self._note(text, params)
        self._transactions.prepare_read()
        result, objects = self.sqlite.query(expand_describe(self, tokens, params), params)
        if any(not name.lower().startswith(("sys.", "information_schema.")) for name in objects):
            self._count_query(statement)
        self.sender.send(result, statement, answer, self.database)

    def _call(self, call: Call, answer: Answer) -> None:
        """Run a procedure: registered ones, sp_executesql and sp_describe_first_result_set."""
        nocount = self.sender.nocount
        if call.short_name == "sp_executesql":
            sql, params = _executed_sql(call)
            answer.in_procedure += 1
            self._run_text(sql, params, answer)
        else:
            body = self.answers.procedure(call.procedure)
            params = _bind(call, body)
            statement = self._note(f"EXEC {call.procedure}", params)
            if body is None and call.short_name == "sp_describe_first_result_set":
                body = self._described(str(next(iter(params.values()), "")))
            if body is None:
                raise SqlError(2812, f"Could not find stored procedure '{call.procedure}'.", state=62)
            answer.in_procedure += 1
            if isinstance(body, str):
                self._run_text(body, params, answer)
            else:
                self._count_query(statement)
                for result in as_list(body(params, self.log) if callable(body) else body):
                    self.sender.send(result, statement, answer, self.database)
        self.sender.nocount = nocount
        answer.in_procedure -= 1
        answer.token(wire.return_status(0))
        answer.done_procedure()

    def _described(self, sql: str) -> Result:
        return describe(self, sql)


def _bind(call: Call, body: Any) -> dict[str, Any]:
    """Give positional values the parameter names in their order of appearance in the body."""
    params = dict(call.named)
    names = list(dict.fromkeys(re.findall(r"(?<!@)@\w+", body.lower()))) if isinstance(body, str) else []
    for index, value in enumerate(call.positional):
        params[names[index] if index < len(names) else f"@p{index + 1}"] = value
    return params


def _executed_sql(call: Call) -> tuple[str, dict[str, Any]]:
    """Return the text and parameters of a call of sp_executesql."""
    positional = list(call.positional)
    named = dict(call.named)
    sql = positional.pop(0) if positional else named.pop("@stmt", named.pop("@statement", ""))
    declared = positional.pop(0) if positional else named.pop("@params", "")
    names = re.findall(r"@\w+", str(declared or "").lower())
    return str(sql), {**dict(zip(names, positional, strict=False)), **named}

"""Who is asking, read at the least cost: every request reads a session and an account.

Both are Django's own but for how a row is read (`annotate.prepared`). The session's age, its account's
password hash and whether the account is active are checked as ever, with each request.
"""

from django.contrib.auth.backends import ModelBackend
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessions
from django.contrib.sessions.models import Session
from django.utils import timezone

from annotate.models import User
from annotate.prepared import prepare

_session = prepare(lambda key: Session.objects.filter(session_key=key))
_user = prepare(lambda user: User.objects.filter(pk=user))


class SessionStore(DatabaseSessions):
    """Sessions in the database."""

    @classmethod
    def get_model_class(cls) -> type[Session]:
        return Session

    def _get_session_from_db(self) -> Session | None:
        session = _session.first(key=self.session_key) if self.session_key else None
        if session is None or session.expire_date <= timezone.now():
            self._session_key = None
            return None
        return session


class AccountBackend(ModelBackend):
    """Accounts with a user name and a password."""

    def get_user(self, user_id: int) -> User | None:
        user = _user.first(user=user_id)
        return user if user is not None and self.user_can_authenticate(user) else None

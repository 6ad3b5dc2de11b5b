"""Notifications as a nameko service: wiring only."""

from collections.abc import Callable
from functools import partial
from typing import Any

from services.notifications import (
    activity,
    alerting,
    choosing,
    claiming,
    endpoints,
    headshot_analytics,
    headshot_facts,
    headshot_statistics,
    inbox,
    incidents,
    log,
    mailing,
    posting,
    preferences,
    receivers,
    recording,
    requested,
    sending,
    sessions,
    staging_analytics,
    summaries,
    telling,
    tips,
    webhooks,
)
from shared.config import Settings
from shared.database import Batch
from shared.dead_letters import counts as dead_letters
from shared.events import (
    Event,
    JobFinished,
    LedgerInvariantViolated,
    MemberChanged,
    MemberInvited,
    MemberJoined,
    MemberRemoved,
    OrganizationCreated,
    PasswordResetRequested,
    ProviderCircuitClosed,
    ProviderCircuitOpened,
    QuotaThresholdReached,
    WebhookEndpointDisabled,
    logged,
)
from shared.host import Built, DatabaseProvider, SettingsProvider, background, every
from shared.messaging import subscribe
from shared.rpc import rpc


class Notifications:
    """Keeps each organization's log of events, and tells people and systems what happened."""

    name = "notifications"
    db = DatabaseProvider()
    settings: Settings = SettingsProvider()
    post = Built(posting.post_for)
    mail_room = Built(sending.mail_room_for)
    alerts = Built(alerting.alerts_for)

    @rpc
    def events(self, *, org_id: str, **page: Any) -> dict[str, Any]:
        """Return an organization's events after a cursor."""
        with self.db.transaction(org_id=org_id) as session:
            return log.events(session, org_id=org_id, **page)

    @rpc
    def activity(self, *, org_id: str, **page: Any) -> dict[str, Any]:
        """Return what happened in an organization, in sentences."""
        with self.db.transaction(org_id=org_id) as session:
            return activity.activity(session, org_id=org_id, **page)

    @rpc
    def headshot_analytics(self, **days: Any) -> dict[str, Any]:
        """Return the statistics of headshots."""
        with self.db.transaction() as session:
            return headshot_analytics.analytics(session, **days)

    @rpc
    def staging_analytics(self, **days: Any) -> dict[str, Any]:
        """Return the statistics of staging sessions."""
        with self.db.transaction() as session:
            return staging_analytics.analytics(session, **days)

    @rpc
    def create_endpoint(self, **wanted: Any) -> dict[str, Any]:
        """Make a webhook endpoint."""
        return endpoints.create(self.db, self.post, endpoints.Wanted(**wanted))

    @rpc
    def endpoints(self, *, org_id: str, **page: Any) -> dict[str, Any]:
        """Return an organization's webhook endpoints."""
        with self.db.transaction(org_id=org_id) as session:
            return receivers.endpoints(session, org_id=org_id, **page)

    @rpc
    def endpoint(self, *, org_id: str, endpoint_id: str) -> dict[str, Any]:
        """Return one webhook endpoint."""
        with self.db.transaction(org_id=org_id) as session:
            return receivers.endpoint(session, org_id=org_id, endpoint_id=endpoint_id)

    @rpc
    def change_endpoint(self, **asked: Any) -> dict[str, Any]:
        """Change a webhook endpoint."""
        return endpoints.change(self.db, self.post, **asked)

    @rpc
    def delete_endpoint(self, *, org_id: str, endpoint_id: str) -> dict[str, Any]:
        """Delete a webhook endpoint."""
        return endpoints.delete(self.db, org_id=org_id, endpoint_id=endpoint_id)

    @rpc
    def rotate_endpoint_secret(self, *, rotation_id: str, **asked: Any) -> dict[str, Any]:
        """Give a webhook endpoint another secret, one for each rotation."""
        secret = webhooks.secret_of(rotation_id, signing_secret=self.settings.signing_secret)
        return endpoints.rotate(self.db, self.post, secret=secret, **asked)

    @rpc
    def test_endpoint(self, *, org_id: str, endpoint_id: str) -> dict[str, Any]:
        """Send a webhook endpoint a test."""
        return requested.test(self.db, org_id=org_id, endpoint_id=endpoint_id)

    @rpc
    def replay(self, *, org_id: str, endpoint_id: str, **chosen: Any) -> dict[str, Any]:
        """Send a webhook endpoint events once more."""
        return requested.replay(self.db, org_id=org_id, endpoint_id=endpoint_id, chosen=requested.Range(**chosen))

    @rpc
    def deliveries(self, *, org_id: str, **page: Any) -> dict[str, Any]:
        """Return what is or was on its way to a webhook endpoint."""
        with self.db.transaction(org_id=org_id) as session:
            return receivers.deliveries(session, org_id=org_id, **page)

    @rpc
    def messages(self, *, org_id: str, **page: Any) -> dict[str, Any]:
        """Return the messages in somebody's inbox."""
        with self.db.transaction(org_id=org_id) as session:
            return inbox.messages(session, org_id=org_id, **page)

    @rpc
    def mark_read(self, **asked: Any) -> dict[str, Any]:
        """Mark messages as read."""
        return inbox.mark_read(self.db, **asked)

    @rpc
    def preferences(self, *, org_id: str, user_id: str) -> dict[str, Any]:
        """Return what somebody wants to be told."""
        with self.db.transaction(org_id=org_id) as session:
            return preferences.one(session, org_id=org_id, user_id=user_id)

    @rpc
    def change_preferences(self, **asked: Any) -> dict[str, Any]:
        """Change what somebody wants to be told."""
        return choosing.change(self.db, **asked)

    @rpc
    def unsubscribe(self, *, token: str) -> dict[str, Any]:
        """Switch off the mails that a link came with."""
        return choosing.unsubscribe(self.db, token=token, secret=self.settings.signing_secret)

    @rpc
    def send_tips(self, *, tip_id: str, subject: str, paragraphs: list[str]) -> dict[str, Any]:
        """Send a tip to all who want some."""
        return tips.send(self.db, tip_id=tip_id, subject=subject, paragraphs=paragraphs)

    @rpc
    def report_failed_sign_ups(self, **what: Any) -> dict[str, Any]:
        """Take note that people could not sign up."""
        return alerting.report_failed_sign_ups(self.db, self.alerts, **what)

    @subscribe(logged())
    def on_event(self, events: Batch[Event]) -> None:
        """Append to the logs what organizations may see."""
        self.db.once(events, partial(recording.record, self.db))

    @subscribe(headshot_facts.TYPES)
    def on_headshots(self, events: Batch[Event]) -> None:
        """Keep what happens to headshots, and what people do with them."""
        self.db.once(events, headshot_statistics.keep)

    @subscribe((OrganizationCreated, MemberInvited, MemberJoined, MemberChanged, MemberRemoved))
    def on_people(self, events: Batch[Event]) -> None:
        """Note who is a member where, and send the invitations."""
        self.db.once(events, partial(telling.keep_people, self.db))

    @subscribe(PasswordResetRequested)
    def on_password_reset_requested(self, events: Batch[PasswordResetRequested]) -> None:
        """Send links for new passwords."""
        self.db.once(events, partial(telling.send_resets, self.db))

    @subscribe((JobFinished, QuotaThresholdReached, WebhookEndpointDisabled))
    def on_news(self, events: Batch[Event]) -> None:
        """Tell people what they want to know."""
        self.db.once(events, partial(telling.tell, self.db))

    @subscribe((ProviderCircuitOpened, ProviderCircuitClosed, LedgerInvariantViolated))
    def on_trouble(self, events: Batch[Event]) -> None:
        """Tell operators what is wrong with the system as such."""
        self.db.once(events, partial(alerting.hear, self.db, self.alerts))

    @background
    def send_mails(self, stopping: Callable[[], bool]) -> None:
        """Hand due mails to the mail server."""
        sending.run(self.db, self.mail_room, stopping)

    @background
    def deliver_webhooks(self, stopping: Callable[[], bool]) -> None:
        """Take due webhooks to their receivers."""
        posting.run(self.db, self.post, stopping)

    @background
    def send_alerts(self, stopping: Callable[[], bool]) -> None:
        """Take alerts to where operators want them."""
        alerting.run(self.db, self.alerts, stopping)

    @every(seconds=30)
    def look_at_dead_letters(self) -> None:
        """Tell operators where messages were set aside."""
        alerting.look_at_dead_letters(self.db, self.alerts, dead_letters(self.settings.amqp_url))

    @every(seconds=5)
    def cancel_for_disabled_endpoints(self) -> None:
        """Cancel what is still on its way to endpoints that are disabled."""
        with self.db.transaction() as session:
            claiming.cancel_for_disabled(session)

    @every(seconds=10)
    def report_pending(self) -> None:
        """Show how much waits to be delivered."""
        with self.db.transaction() as session:
            claiming.report_pending(session)
            mailing.report_pending(session)

    @every(seconds=5)
    def count_headshots(self) -> None:
        """Count the days anew of which something was heard."""
        headshot_statistics.count_due(self.db)

    @every(seconds=300)
    def sweep_events(self) -> None:
        """Delete events past their retention."""
        recording.sweep(self.db, days=self.settings.event_retention_days)

    @every(seconds=3600)
    def sweep_mails(self) -> None:
        """Delete mails, messages and what else of the past nobody needs any more."""
        mailing.sweep(self.db)
        incidents.sweep(self.db)
        sessions.sweep(self.db)

    @every(seconds=300)
    def send_weekly(self) -> None:
        """Send the summaries of the week."""
        summaries.send_weekly(self.db)

    @every(seconds=300)
    def send_digests(self) -> None:
        """Send the summaries of days that are due."""
        summaries.send_digests(self.db)

    @every(seconds=5)
    def spread_tips(self) -> None:
        """Make the mails of tips that are on their way."""
        tips.spread(self.db)

"""The tag of an envelope sender that one mail alone has (VERP): its bounce is looked up and not searched for."""

import re

import sqlalchemy as sa
from alembic import op

revision = "0012_return_path"
down_revision = "0011_lookups"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("submission", sa.Column("return_tag", sa.Text(), nullable=True))
    connection = op.get_bind()
    tagged = connection.execute(sa.text("SELECT id, mail_from FROM submission WHERE mail_from LIKE '%+b=%'")).all()
    rows = [
        {"id": id_, "tag": tag[1].lower()}
        for id_, mail_from in tagged
        if (tag := re.search(r"\+b=([a-z2-7]{16})@", mail_from, re.IGNORECASE))
    ]
    if rows:
        connection.execute(sa.text("UPDATE submission SET return_tag = :tag WHERE id = :id"), rows)
    op.create_index("submission_return_tag", "submission", ["account", "return_tag"])

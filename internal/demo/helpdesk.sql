CREATE TABLE customers (
  id         INTEGER PRIMARY KEY,
  email      TEXT NOT NULL UNIQUE COLLATE NOCASE,
  name       TEXT NOT NULL,
  phone      TEXT,
  created_at TEXT NOT NULL
);
CREATE INDEX customers_phone ON customers (phone);
CREATE INDEX customers_created ON customers (created_at);

CREATE TABLE devices (
  id          INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers (id),
  device_uid  TEXT NOT NULL UNIQUE,
  last_ip     TEXT
);
CREATE INDEX devices_customer ON devices (customer_id);

CREATE TABLE tickets (
  id          INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers (id),
  subject     TEXT NOT NULL,
  body        TEXT NOT NULL,
  created_at  TEXT NOT NULL
);
CREATE INDEX tickets_customer ON tickets (customer_id);
CREATE INDEX tickets_created ON tickets (created_at);

CREATE TABLE messages (
  id           INTEGER PRIMARY KEY,
  ticket_id    INTEGER REFERENCES tickets (id) ON DELETE SET NULL,
  sender_id    INTEGER REFERENCES customers (id),
  recipient_id INTEGER REFERENCES customers (id),
  body         TEXT NOT NULL,
  sent_at      TEXT NOT NULL
);
CREATE INDEX messages_ticket ON messages (ticket_id);
CREATE INDEX messages_sender ON messages (sender_id);
CREATE INDEX messages_recipient ON messages (recipient_id);

CREATE TABLE attachments (
  id        INTEGER PRIMARY KEY,
  ticket_id INTEGER NOT NULL REFERENCES tickets (id),
  file_name TEXT NOT NULL,
  content   BLOB NOT NULL
);
CREATE INDEX attachments_ticket ON attachments (ticket_id);

CREATE TABLE invoices (
  id          INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers (id),
  number      TEXT NOT NULL UNIQUE,
  issued_on   TEXT NOT NULL,
  total_cents INTEGER NOT NULL,
  note        TEXT
);
CREATE INDEX invoices_customer ON invoices (customer_id);
CREATE INDEX invoices_issued ON invoices (issued_on);

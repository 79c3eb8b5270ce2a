CREATE TABLE newsletter_signups (
  id          INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers (id),
  email       TEXT NOT NULL,
  created_at  TEXT NOT NULL
);

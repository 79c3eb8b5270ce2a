CREATE TABLE newsletter_signups (
  id          INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers (id),
  email       TEXT NOT NULL,
  created_at  TEXT NOT NULL
);
CREATE INDEX newsletter_signups_customer ON newsletter_signups (customer_id);
CREATE INDEX newsletter_signups_email ON newsletter_signups (email);

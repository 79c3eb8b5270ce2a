CREATE TABLE visitors (
  device_uid TEXT PRIMARY KEY,
  first_seen TEXT NOT NULL
);

CREATE TABLE page_views (
  id         INTEGER PRIMARY KEY,
  device_uid TEXT NOT NULL REFERENCES visitors (device_uid),
  path       TEXT NOT NULL,
  seen_at    TEXT NOT NULL
);
CREATE INDEX page_views_device ON page_views (device_uid);

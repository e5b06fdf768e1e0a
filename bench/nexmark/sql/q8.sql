-- New persons who sell something within the same ten seconds.
SELECT p.id, p.name, p.starts
FROM (SELECT id, name,
             date_bin(INTERVAL '10 seconds', date_time, TIMESTAMP '1970-01-01') AS starts
      FROM person GROUP BY 1, 2, 3) p
JOIN (SELECT seller,
             date_bin(INTERVAL '10 seconds', date_time, TIMESTAMP '1970-01-01') AS starts
      FROM auction GROUP BY 1, 2) a
    ON p.id = a.seller AND p.starts = a.starts

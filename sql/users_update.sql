-- Sets the handles that identity events named and the columns that profiles set (all NULL if the profile was deleted).
-- $1 did  $2 has_handle  $3 handle  $4 has_profile  $5 display_name  $6 description  $7 avatar_url  $8 banner_url
-- $9 profile_record  $10 pinned_post: arrays of one length, sorted by did
-- Safe twice: the values are absolute, and a row that already has them is not written.
-- Locks: rows that users_lock.sql has already locked.
UPDATE users AS u
SET handle = CASE WHEN new.has_handle THEN new.handle ELSE u.handle END,
    display_name = CASE WHEN new.has_profile THEN new.display_name ELSE u.display_name END,
    description = CASE WHEN new.has_profile THEN new.description ELSE u.description END,
    avatar_url = CASE WHEN new.has_profile THEN new.avatar_url ELSE u.avatar_url END,
    banner_url = CASE WHEN new.has_profile THEN new.banner_url ELSE u.banner_url END,
    profile_record = CASE WHEN new.has_profile THEN new.profile_record ELSE u.profile_record END,
    pinned_post = CASE WHEN new.has_profile THEN new.pinned_post ELSE u.pinned_post END
FROM unnest($1::text[], $2::boolean[], $3::text[], $4::boolean[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::jsonb[],
        $10::jsonb[])
    AS new (did, has_handle, handle, has_profile, display_name, description, avatar_url, banner_url, profile_record,
        pinned_post)
WHERE u.did = new.did
    AND (
        new.has_handle AND u.handle IS DISTINCT FROM new.handle
        OR new.has_profile
        AND (u.display_name, u.description, u.avatar_url, u.banner_url, u.profile_record, u.pinned_post)
            IS DISTINCT FROM
            (new.display_name, new.description, new.avatar_url, new.banner_url, new.profile_record, new.pinned_post)
    )

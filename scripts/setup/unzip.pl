# unzip.pl FILE DIR: unpacks a zip with nothing but perl's own modules.
use strict;
use warnings;
use File::Basename qw(dirname);
use File::Path qw(make_path);
use IO::Uncompress::Unzip qw($UnzipError);

my ($file, $dir) = @ARGV;
my $zip = IO::Uncompress::Unzip->new($file) or die "zip: $UnzipError\n";
my $status;
for ($status = 1; $status > 0; $status = $zip->nextStream()) {
    my $name = $zip->getHeaderInfo()->{Name};
    die "zip: unsafe name $name\n" if $name =~ m{^/} || $name =~ m{(^|/)\.\.(/|$)};
    if ($name =~ m{/$}) {
        make_path("$dir/$name");
        next;
    }
    make_path(dirname("$dir/$name"));
    open my $out, '>:raw', "$dir/$name" or die "zip: $name: $!\n";
    my $buffer;
    while (($status = $zip->read($buffer)) > 0) {
        print {$out} $buffer or die "zip: $name: $!\n";
    }
    die "zip: $name: $UnzipError\n" if $status < 0;
    close $out or die "zip: $name: $!\n";
}
die "zip: $UnzipError\n" if $status < 0;
